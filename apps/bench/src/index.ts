export { runChild } from './children.js';
export { main } from './main.js';
export { benchRecord, missedGoals, ratioOf, type BenchRecord, type Measurement, type Unit } from './record.js';
export type { Suite, SuiteOptions } from './suite.js';
export { suites } from './suites/catalogue.js';
export { formatTable } from './table.js';
