import { generatorVersion, type RunFacts } from '../../src/index.js';

export const facts: RunFacts = {
  model: 'reader',
  modelHash: 'a',
  tokenizerHash: 'b',
  generatorVersion,
  format: 'plain',
  seed: 43,
  queries: 5,
  questions: 'method',
  backend: 'native',
  threads: 2,
  device: 'avx2',
  machine: 'a machine',
  text: '',
};
