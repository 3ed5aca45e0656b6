import type { Suite } from '../suite.js';
import { attention } from './attention.js';
import { context } from './context.js';
import { kernels } from './kernels.js';
import { kv } from './kv.js';
import { llama } from './llama.js';
import { pool } from './pool.js';
import { profile } from './profile.js';
import { types } from './types.js';

/** Every suite that `bench` knows. */
export const suites: readonly Suite[] = [llama, types, context, kernels, attention, kv, pool, profile];
