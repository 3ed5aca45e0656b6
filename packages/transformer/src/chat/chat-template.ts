import { Template } from '@huggingface/jinja';
import { SpecialTokens } from '../tokenizer/special-tokens.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { ChatTemplateError } from './errors.js';
import { hideSpecialTokens } from './hide-special-tokens.js';
import { renderTemplate } from './render-template.js';

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant' | 'tool';
  readonly content: string;
}

export interface ChatRenderOptions {
  /** End with the beginning of the assistant's answer. Default false. */
  addGenerationPrompt?: boolean | undefined;
  /** Further variables for the template, for example `{ enable_thinking: false }`. */
  variables?: Readonly<Record<string, unknown>> | undefined;
}

const roles: readonly string[] = ['system', 'user', 'assistant', 'tool'];

/** A model's chat format, a Jinja template: messages to the text, or the tokens, that the model was trained on. */
export class ChatTemplate {
  readonly #source: string;
  readonly #template: Template;
  readonly #tokenizer: Tokenizer;
  readonly #special: SpecialTokens;

  /**
   * @param template Jinja source, `tokenizer.chat_template` of a GGUF file
   * @param tokenizer of the model; its `bos` and `eos` are the template's `bos_token` and `eos_token`
   */
  constructor(template: string, tokenizer: Tokenizer) {
    try {
      this.#template = new Template(template);
    } catch (error) {
      throw failure('the chat template is no Jinja template', error);
    }
    this.#source = template;
    this.#tokenizer = tokenizer;
    this.#special = new SpecialTokens(tokenizer.specialTokens);
  }

  /** The text of a conversation. To get tokens use {@link encode}: in this text, contents and control tokens look the same. */
  render(messages: readonly ChatMessage[], options: ChatRenderOptions = {}): string {
    checkMessages(messages);
    return this.#render(messages, options);
  }

  /**
   * The tokens of a conversation. Only the template makes control tokens: what looks like one inside of a content is plain text. Begins with
   * `bos` once, if the template or the model wants it.
   */
  encode(messages: readonly ChatMessage[], options: ChatRenderOptions = {}): number[] {
    checkMessages(messages);
    const contents = messages.map(({ content }) => content);
    const names = [...this.#tokenizer.specialTokens.keys()];
    const { texts, mark, plainMark } = hideSpecialTokens(contents, names, this.#special, this.#source);
    const text = this.#render(
      messages.map(({ role }, index) => ({ role, content: texts[index] ?? '' })),
      options,
    );
    const tokens: number[] = [];
    let plain = '';
    const finishPlain = (): void => {
      if (plain !== '') for (const token of this.#tokenizer.encode(plain, { addBos: false })) tokens.push(token);
      plain = '';
    };
    this.#special.split(text, (whole, start, end, token) => {
      if (token < 0 || whole.startsWith(plainMark, end))
        plain += whole.slice(start, end).replaceAll(mark, '').replaceAll(plainMark, '');
      else {
        finishPlain();
        tokens.push(token);
      }
    });
    finishPlain();
    const { addBos, bos } = this.#tokenizer;
    if (addBos && bos !== undefined && tokens[0] !== bos) tokens.unshift(bos);
    return tokens;
  }

  #render(messages: readonly ChatMessage[], { addGenerationPrompt = false, variables = {} }: ChatRenderOptions): string {
    try {
      return renderTemplate(this.#template, {
        ...variables,
        // Nothing else of a message reaches the template: it would not be looked at for special tokens.
        messages: messages.map(({ role, content }) => ({ role, content })),
        add_generation_prompt: addGenerationPrompt,
        bos_token: this.#text(this.#tokenizer.bos),
        eos_token: this.#text(this.#tokenizer.eos),
      });
    } catch (error) {
      throw failure('the chat template refuses the messages or fails on them', error);
    }
  }

  #text(token: number | undefined): string {
    return token === undefined ? '' : this.#tokenizer.decode([token], { special: true });
  }
}

function checkMessages(messages: readonly ChatMessage[]): void {
  if (!Array.isArray(messages)) throw new ChatTemplateError('messages: expected an array');
  for (const [index, message] of (messages as readonly unknown[]).entries()) {
    if (typeof message !== 'object' || message === null)
      throw new ChatTemplateError(`messages[${index}]: expected a role and a content, got ${String(message)}`);
    const { role, content } = message as { role: unknown; content: unknown };
    if (typeof role !== 'string' || !roles.includes(role))
      throw new ChatTemplateError(`messages[${index}].role: expected one of ${roles.join(', ')}, got ${JSON.stringify(role)}`);
    if (typeof content !== 'string')
      throw new ChatTemplateError(`messages[${index}].content: expected a string, got ${JSON.stringify(content)}`);
  }
}

function failure(what: string, error: unknown): ChatTemplateError {
  return new ChatTemplateError(`${what}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
}
