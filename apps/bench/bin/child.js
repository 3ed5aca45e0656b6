#!/usr/bin/env node
// One measurement in a process of its own: `child.js NAME JSON` prints one JSON line.
import { runChild } from '../dist/index.js';

await runChild(process.argv[2], process.argv[3]);
