import type { ChatMessage, Model, PromptCache } from '@filigree/transformer';
import { answer, type Answer, type AnswerContext } from '../answer.js';
import type { GenerationOptions } from '../options/model-options.js';
import { chatMessages } from './messages.js';

/** Messages to and fro, and what answers them. */
export class Conversation {
  system: string | undefined;
  readonly #model: Model;
  readonly #options: GenerationOptions;
  #messages: ChatMessage[] = [];

  readonly #promptCache: PromptCache | undefined;

  /** @param promptCache so that no turn reads again what was said before; stays its owner's. */
  constructor(model: Model, options: GenerationOptions, system: string | undefined, promptCache?: PromptCache) {
    this.#model = model;
    this.#options = options;
    this.system = system;
    this.#promptCache = promptCache;
  }

  clear(): void {
    this.#messages = [];
    this.#promptCache?.clear();
  }

  /** Answers a message. What was said of a stopped answer stays; a message that failed, or that got no answer at all, does not. */
  async say(
    content: string,
    context: Omit<AnswerContext, 'promptCache'>,
    onText: (text: string) => Promise<void> | undefined,
  ): Promise<Answer> {
    const messages: ChatMessage[] = [...this.#messages, { role: 'user', content }];
    const parts = { ...context, promptCache: this.#promptCache };
    const result = await answer(this.#model, chatMessages(this.system, messages), this.#options, parts, onText);
    if (result.text !== '' || result.reason !== 'aborted')
      this.#messages = [...messages, { role: 'assistant', content: result.text }];
    return result;
  }
}
