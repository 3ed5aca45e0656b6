import { OptionError } from '@filigree/core-tensor';
import type { Tokenizer } from '@filigree/transformer';
import type { Sample, SampleOptions, Task, TokenIds } from '../task.js';

/** Tokens of a window whose loss is counted, at most: by how they are read. */
const mostCounted = { prefill: 512, decode: 128 } as const;

/**
 * Loss of the end of windows of a text, which move by half a window. `perplexity-strided`: all of a window is read as a prompt;
 * `perplexity-prefix`: its end is taken token by token as when generating, after the rest was read as a prompt. A method sees only what it was fed.
 *
 * Natural text hardly needs context beyond some hundred tokens at small sizes of models, so that differences are small.
 */
export function perplexityTasks(text: string): readonly Task[] {
  const tokens = new WeakMap<Tokenizer, TokenIds>();
  const idsOf = (tokenizer: Tokenizer): TokenIds => {
    const known = tokens.get(tokenizer) ?? tokenizer.encode(text, { addBos: false });
    tokens.set(tokenizer, known);
    return known;
  };
  return [
    perplexityTask('perplexity-strided', 'Bits per token of a text, read as a prompt', 'prefill', idsOf),
    perplexityTask('perplexity-prefix', 'Bits per token of a text, decoded after a prompt', 'decode', idsOf),
  ];
}

function perplexityTask(id: string, title: string, phase: Task['phase'], idsOf: (tokenizer: Tokenizer) => TokenIds): Task {
  return {
    id,
    title,
    reading: 'bits',
    phase,
    chance: 0,
    limit: 0,
    sample: (options) => textWindow(options, idsOf(options.tokenizer), mostCounted[phase]),
    score: () => 0,
  };
}

/** Window `index`: its beginning as the context, and the counted tokens as the only answer. */
function textWindow({ tokens, tokenizer, index }: SampleOptions, ids: TokenIds, most: number): Sample {
  const first = tokenizer.addBos && tokenizer.bos !== undefined ? [tokenizer.bos] : [];
  const length = tokens - first.length;
  const counted = Math.min(most, Math.floor(length / 2));
  if (counted < 1) throw new OptionError(`perplexity: ${tokens} tokens are too few for a window of text`);
  const start = index * Math.floor(length / 2);
  if (start + length > ids.length)
    throw new OptionError(
      `perplexity: the text has ${ids.length} tokens, window ${index} of ${tokens} tokens ends at ${start + length}; give a longer text or fewer samples`,
    );
  const window = ids.slice(start, start + length);
  return {
    context: [...first, ...window.slice(0, length - counted)],
    queries: [{ prompt: [], answer: window.slice(length - counted), references: [], spans: [] }],
  };
}
