import { OptionError } from '@filigree/core-tensor';
import type { ChatTemplate, Tokenizer } from '@filigree/transformer';
import type { TokenIds } from './task.js';

/** A context and what is asked about it, in words. */
export interface PromptText {
  readonly context: string;
  readonly questions: readonly { readonly question: string; readonly lead: string }[];
}

/** The same as tokens: every prompt continues `context`. */
export interface PromptTokens {
  readonly context: TokenIds;
  readonly prompts: readonly TokenIds[];
}

/** How contexts, questions and beginnings of answers become tokens. */
export interface PromptFormat {
  readonly id: 'plain' | 'chat';
  encode(text: PromptText): PromptTokens;
  /** Tokens of `answer` after a text that ends with `lead`. */
  answer(lead: string, answer: string): TokenIds;
}

/** Plain continuation: context, a blank line, the question, the beginning of the answer on the same line. */
export function plainFormat(tokenizer: Tokenizer): PromptFormat {
  return {
    id: 'plain',
    encode: ({ context, questions }) => ({
      context: tokenizer.encode(context),
      prompts: questions.map(({ question, lead }) => tokenizer.encode(`\n\n${question} ${lead}`, { addBos: false })),
    }),
    answer: (lead, answer) => answerTokens(tokenizer, lead, answer),
  };
}

/** A turn of a user with context and question, and the beginning of the assistant's answer, in the model's own template. */
export function chatFormat(tokenizer: Tokenizer, template: ChatTemplate): PromptFormat {
  return {
    id: 'chat',
    encode({ context, questions }) {
      const prompts = questions.map(({ question, lead }) => [
        ...template.encode([{ role: 'user', content: `${context}\n\n${question}` }], { addGenerationPrompt: true }),
        ...tokenizer.encode(lead, { addBos: false }),
      ]);
      const shared = sharedPrefix(prompts);
      return { context: prompts[0].slice(0, shared), prompts: prompts.map((prompt) => prompt.slice(shared)) };
    },
    answer: (lead, answer) => answerTokens(tokenizer, lead, answer),
  };
}

/** Tokens of `lead answer` behind those of `lead`. @throws OptionError where they cannot be told apart. */
function answerTokens(tokenizer: Tokenizer, lead: string, answer: string): TokenIds {
  const before = tokenizer.encode(lead, { addBos: false });
  const all = tokenizer.encode(`${lead} ${answer}`, { addBos: false });
  if (before.some((token, index) => all[index] !== token))
    throw new OptionError(`evaluation: "${lead}" and "${answer}" share a token, so that the answer cannot be forced`);
  return all.slice(before.length);
}

/** Number of first tokens that all have in common; at least one token of each is left. */
function sharedPrefix(all: readonly TokenIds[]): number {
  const most = Math.min(...all.map(({ length }) => length)) - 1;
  const differs = (index: number): boolean => all.some((tokens) => tokens[index] !== all[0][index]);
  let shared = 0;
  while (shared < most && !differs(shared)) shared++;
  return shared;
}
