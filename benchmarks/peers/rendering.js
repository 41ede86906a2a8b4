// One renderer of benchmarks/rendering.py in a process of its own: sharp, plain as documented or tuned.
// rendering.js each|tuned   a line of JSON in ({source, folder}), a line out ({cpu}: seconds of the whole process)
const readline = require('readline')
const path = require('path')
const sharp = require('sharp')

sharp.cache(false)
sharp.concurrency(1)
const SIZES = [2048, 1024, 320]
const JPEG = { quality: 78, optimiseCoding: true, mozjpeg: false }
const inside = size => ({ width: size, height: size, fit: 'inside', withoutEnlargement: true })

// A pipeline from the file for each size.
async function each ({ source, folder }) {
  for (const size of SIZES) {
    await sharp(source).autoOrient().resize(inside(size)).jpeg(JPEG).toFile(path.join(folder, `${size}.jpg`))
  }
}

// Everything from one decode, and a profile that is sRGB anyway is not converted.
async function tuned ({ source, folder }) {
  const { icc } = await sharp(source).metadata()
  const ignoreIcc = !!icc && (icc.includes('sRGB') || icc.includes(Buffer.from('s\0R\0G\0B', 'latin1')))
  let raw
  for (const size of SIZES) {
    const from = raw ? sharp(raw.data, { raw: raw.info }) : sharp(source, { ignoreIcc }).autoOrient()
    raw = await from.resize(inside(size)).toColourspace('srgb').raw().toBuffer({ resolveWithObject: true })
    const { width, height, channels } = raw.info
    raw.info = { width, height, channels }
    await sharp(raw.data, { raw: raw.info }).jpeg(JPEG).toFile(path.join(folder, `${size}.jpg`))
  }
}

const cpu = () => { const used = process.resourceUsage(); return (used.userCPUTime + used.systemCPUTime) / 1e6 }

;(async () => {
  const render = { each, tuned }[process.argv[2]]
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const before = cpu()
    await render(JSON.parse(line))
    console.log(JSON.stringify({ cpu: cpu() - before }))
  }
})()
