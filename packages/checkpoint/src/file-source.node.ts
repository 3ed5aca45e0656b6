export { fileSink } from './sinks/open-sink.node.js';
export { fileSource } from './sources/open-file.node.js';
