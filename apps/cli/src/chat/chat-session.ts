import type { Context } from '../context.js';
import { statsJson, statsLine } from '../format/stats.js';
import { reportError } from '../report-error.js';
import { chatHelp, parseChatCommand } from './chat-commands.js';
import type { Conversation } from './conversation.js';
import { interrupted, type LineReader } from './line-reader.js';

export interface ChatSessionOptions {
  /** At a terminal a failed message is reported and the conversation goes on; elsewhere it ends the program. */
  readonly interactive: boolean;
  readonly json: boolean;
  readonly stats: boolean;
}

/** Reads messages and commands and answers them. Ctrl-C stops the running answer; a second one in a row leaves. */
export class ChatSession {
  readonly #context: Context;
  readonly #conversation: Conversation;
  readonly #lines: LineReader;
  readonly #options: ChatSessionOptions;
  /** Set while an answer runs. */
  #answering: AbortController | undefined;
  #interrupted = false;

  constructor(context: Context, conversation: Conversation, lines: LineReader, options: ChatSessionOptions) {
    this.#context = context;
    this.#conversation = conversation;
    this.#lines = lines;
    this.#options = options;
  }

  async run(): Promise<void> {
    const { signal } = this.#context;
    this.#context.onStop((stop) => {
      if (stop === 'SIGINT') this.#interrupt();
      else this.#context.stop(stop);
    });
    try {
      while (!signal.aborted) {
        const line = await this.#lines.next();
        if (line === undefined) break;
        if (line === interrupted) {
          this.#interrupt();
          continue;
        }
        this.#interrupted = false;
        if (line.trim() !== '' && !(await this.#take(line))) break;
      }
    } finally {
      this.#context.onStop(undefined);
      this.#lines.close();
    }
  }

  #interrupt(): void {
    const { note, stop } = this.#context;
    if (this.#interrupted || (!this.#answering && !this.#options.interactive)) {
      stop('SIGINT');
      return;
    }
    this.#interrupted = true;
    if (this.#answering) this.#answering.abort();
    else note('Ctrl-C again leaves, as does /exit.');
  }

  /** Handles one line; false when it asks to leave. */
  async #take(line: string): Promise<boolean> {
    const { note } = this.#context;
    const command = parseChatCommand(line);
    switch (command?.name) {
      case undefined:
        await this.#answer(line);
        return true;
      case 'exit':
        return false;
      case 'help':
        note(chatHelp);
        return true;
      case 'clear':
        this.#conversation.clear();
        note('The conversation is forgotten.');
        return true;
      case 'system':
        if (command.text === '') note(this.#conversation.system ?? 'There is no system message.');
        else this.#conversation.system = command.text;
        return true;
      case 'unknown':
        note(`There is no command ${command.word}; /help lists them.`);
        return true;
    }
  }

  async #answer(message: string): Promise<void> {
    const { out, note, signal, io, progress } = this.#context;
    const { interactive, json, stats } = this.#options;
    this.#answering = new AbortController();
    const either = { signal: AbortSignal.any([signal, this.#answering.signal]), progress };
    try {
      const write = json ? () => undefined : (text: string) => out.text(text);
      const result = await this.#conversation.say(message, either, write);
      if (json) {
        const { text, tokens, reason } = result;
        await out.json({ text, tokens, reason, stats: statsJson(result.stats) });
        return;
      }
      await out.line();
      if (stats) note(statsLine(result));
    } catch (error) {
      if (!interactive || out.failure) throw error;
      reportError(error, io);
    } finally {
      this.#answering = undefined;
    }
  }
}
