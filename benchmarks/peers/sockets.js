// The WebSocket protocol on Node's `ws` and nothing behind it: no database, no tokens, every dream is there and done.
// sockets.js PORT
const http = require('http')
const { WebSocketServer } = require('ws')

const listeners = new Map() // dream -> its sockets

const server = http.createServer((request, response) => {
  request.resume().on('end', () => {
    const id = request.url.split('/')[3] || '1'
    if (request.method === 'PATCH') {
      const update = JSON.stringify(state(id))
      for (const socket of listeners.get(id) || []) socket.send(update)
    }
    response.writeHead(request.method === 'POST' ? 201 : 200, { 'Content-Type': 'application/json' })
    response.end(JSON.stringify({ id, access: 'anyone', status: 'completed', images: [] }))
  })
})

function state (id) {
  return { type: 'image_update', dream_id: id, status: 'completed', images: [], timestamp: Date.now() / 1000 }
}

new WebSocketServer({ server, perMessageDeflate: false }).on('connection', (socket, request) => {
  const id = request.url.split('/')[3]
  socket.on('message', data => {
    const message = JSON.parse(data)
    if (message.type === 'ping') {
      socket.send(JSON.stringify({ type: 'pong', timestamp: message.timestamp }))
    } else if (message.type === 'authenticate') {
      if (!listeners.has(id)) listeners.set(id, new Set())
      listeners.get(id).add(socket)
      socket.send(JSON.stringify({ type: 'connection_established', dream_id: id, message: '连接已建立，等待图片处理状态更新' }))
      socket.send(JSON.stringify(state(id)))
    }
  })
  socket.on('close', () => listeners.get(id)?.delete(socket))
})

server.listen({ port: +process.argv[2], host: '127.0.0.1', backlog: 1024 })
