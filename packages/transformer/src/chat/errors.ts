import { FiligreeError } from '@filigree/core-tensor';

/** A chat template cannot be parsed, refuses the messages or fails on them, or a message is none. */
export class ChatTemplateError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('CHAT_TEMPLATE', message, options);
  }
}
