import { generate, type ChatMessage, type GenerateOptions, type Generation, type Model } from '@filigree/transformer';

/** What was said, in the form the model takes it. */
export class Conversation {
  #messages: readonly ChatMessage[] = [];

  /** Begins the answer to `text`. Models without a chat template continue the text itself, each time anew. */
  ask(model: Model, text: string, options: GenerateOptions): Generation {
    const prompt: string | ChatMessage[] = model.chatTemplate ? [...this.#messages, { role: 'user', content: text }] : text;
    return generate(model, prompt, options);
  }

  /** Keeps a question and its answer, whole or stopped, for the questions to come. */
  keep(question: string, answer: string): void {
    this.#messages = [...this.#messages, { role: 'user', content: question }, { role: 'assistant', content: answer }];
  }

  clear(): void {
    this.#messages = [];
  }
}
