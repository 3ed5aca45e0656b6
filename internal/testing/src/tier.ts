/** True in the full run (`npm run test:full`): ten times the cases, every variant, real models. */
export const fullTier = process.env['FILIGREE_TEST_TIER'] === 'full';

/** Generated cases per op and backend. */
export const casesPerOp = fullTier ? 200 : 20;
