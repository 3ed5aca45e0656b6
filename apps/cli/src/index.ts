export type { CliIo, StopSignal, Terminal } from './io.js';
export { main } from './main.js';
