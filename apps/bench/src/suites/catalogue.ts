import type { Suite } from '../suite.js';
import { kernels } from './kernels.js';

/** Every suite that `bench` knows. */
export const suites: readonly Suite[] = [kernels];
