import { FiligreeError } from '@filigree/core-tensor';

/** The command line asks for something that does not exist or does not go together. Ends the program with code 2. */
export class UsageError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('USAGE', message, options);
  }
}

/** What reads our output has gone, as `head` does. Ends the program without a word. */
export class BrokenPipeError extends FiligreeError {
  constructor(options?: ErrorOptions) {
    super('BROKEN_PIPE', 'Nobody reads the output any more', options);
  }
}

/** Standard output cannot be written, for another reason than a closed pipe. */
export class OutputError extends FiligreeError {
  constructor(cause: Error) {
    super('OUTPUT', `Standard output cannot be written: ${cause.message}`, { cause });
  }
}

/** A file is of no format this program knows. */
export class UnknownFormatError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('UNKNOWN_FORMAT', message, options);
  }
}

/** A process started by this one failed; the message is its own. */
export class ChildProcessError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('CHILD_PROCESS', message, options);
  }
}

/** Text that comes from outside is not UTF-8. */
export class InvalidTextError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('INVALID_TEXT', message, options);
  }
}
