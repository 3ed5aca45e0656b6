import type { Command } from 'commander';
import type { Context } from '../context.js';

/** Runs a command; resolves with the exit code when it is not 0. */
export type Action = (context: Context) => Promise<number | undefined>;

/** What a command file exports: adds the command to the program. `run` gives its action a context. */
export type AddCommand = (program: Command, run: (action: Action) => Promise<void>) => void;
