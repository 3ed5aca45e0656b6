import { FiligreeError } from '@filigree/core-tensor';

/** A tokenizer's description is wrong or of a kind that is not supported, or an argument is no token of it. The message names the key. */
export class TokenizerError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('TOKENIZER', message, options);
  }
}
