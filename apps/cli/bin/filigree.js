#!/usr/bin/env node
// Committed, so that npm can link it before anything is built.
import { main } from '../dist/index.js';

process.exitCode = await main(process.argv.slice(2));
