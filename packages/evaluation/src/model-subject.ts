import {
  argMax,
  narrow,
  reduce,
  reshape,
  scope,
  sub,
  takeAlongAxis,
  fromArray,
  unary,
  type Tensor,
} from '@filigree/core-tensor';
import { generate, type AttentionOptions, type Model, type Prefix } from '@filigree/transformer';
import type { Forced, ReadContext, Subject, SubjectOptions } from './subject.js';
import type { TokenIds } from './task.js';

/** Rows of logits that are looked at together: bounds what large vocabularies take. */
const rowsAtOnce = 64;

/** A loaded model as what the harness asks. */
export function modelSubject(model: Model): Subject {
  return {
    tokenizer: model.tokenizer,
    context: model.context,
    async prefill(context, { attention, signal, room }) {
      const started = performance.now();
      const prefix = await model.prefill(context, { attention, signal, room });
      return readContext(prefix, (performance.now() - started) / 1000, signal);
    },
  };
}

function readContext(prefix: Prefix, seconds: number, signal: AbortSignal | undefined): ReadContext {
  return {
    seconds,
    density: prefix.stats.density,
    async ask(prompt, attention) {
      const asked = prompt.length > 0 ? await prefix.extend(prompt, { attention, signal }) : prefix;
      return {
        force: (answer, phase) => force(asked, answer, { attention, signal, phase }),
        dispose: () => {
          if (asked !== prefix) asked.dispose();
        },
      };
    },
    async generate(prompt, { limit, ignoreEnd, attention }) {
      const generation = generate(prefix, prompt, { maxTokens: limit, ignoreEos: ignoreEnd, attention, signal });
      const text = await generation.text();
      const { decodeTokens, decodeMs } = generation.stats;
      return { text, decodeTokens, decodeSeconds: decodeMs / 1000 };
    },
    dispose: () => {
      prefix.dispose();
    },
  };
}

interface ForceOptions extends SubjectOptions {
  readonly attention: AttentionOptions;
  readonly phase: 'prefill' | 'decode';
}

async function force(prefix: Prefix, answer: TokenIds, { attention, signal, phase }: ForceOptions): Promise<Forced> {
  const first = await scoreRows(prefix.next, answer.slice(0, 1));
  if (answer.length === 1) return first;
  // Token by token only where that is another attention: dense, both ways give the same numbers.
  const way = phase === 'decode' && !attention.decode && !attention.plan ? 'prefill' : phase;
  const choice = phase === 'decode' ? { ...attention, prefill: undefined } : attention;
  const logits = await prefix.logits(answer.slice(0, -1), { attention: choice, phase: way, signal });
  try {
    const rest = await scoreRows(logits, answer.slice(1));
    return { logProbs: [...first.logProbs, ...rest.logProbs], top: [...first.top, ...rest.top] };
  } finally {
    logits.dispose();
  }
}

/** What logits [n, vocabulary] give the tokens that follow. */
async function scoreRows(logits: Tensor, following: TokenIds): Promise<Forced> {
  const logProbs: number[] = [];
  const top: boolean[] = [];
  for (let start = 0; start < following.length; start += rowsAtOnce) {
    const tokens = following.slice(start, start + rowsAtOnce);
    const { chosen, best, largest, sum } = scope(() => tokenScores(narrow(logits, start, tokens.length), tokens));
    const read = await Promise.all([chosen, best, largest, sum].map((tensor) => tensor.readNumbers()));
    for (const tensor of [chosen, best, largest, sum]) tensor.dispose();
    for (const [row, token] of tokens.entries()) {
      logProbs.push(read[0][row] - read[2][row] - Math.log(read[3][row]));
      top.push(read[1][row] === token);
    }
  }
  return { logProbs, top };
}

/** Logits of tokens and what turns them into probabilities, without [n, vocabulary] leaving the device. */
function tokenScores(rows: Tensor, tokens: TokenIds): { chosen: Tensor; best: Tensor; largest: Tensor; sum: Tensor } {
  const ids = fromArray(rows.backend, [...tokens], [tokens.length, 1], 'i32');
  const best = argMax(rows);
  const largest = takeAlongAxis(rows, reshape(best, [tokens.length, 1]));
  const sum = reduce(unary(sub(rows, largest), 'exp'), 'sum');
  return { chosen: takeAlongAxis(rows, ids), best, largest, sum };
}
