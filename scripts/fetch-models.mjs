// Gets the real models of the full tier and the benchmarks, and prints where they are as a line of JSON.
import { realModels } from './lib/models.mjs';

console.log(JSON.stringify(await realModels()));
