// Types of frontend_example.js.

export * from './client/dreamlog'
