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
import { generate, type AttentionOptions, type KvChoice, type Model, type Prefix } from '@filigree/transformer';
import type { Forced, ReadContext, Subject, SubjectOptions } from './subject.js';
import type { TokenIds } from './task.js';

/** Rows of logits that are looked at together: bounds what large vocabularies take. */
const rowsAtOnce = 64;

/** A loaded model as what the harness asks. */
export function modelSubject(model: Model): Subject {
  return {
    tokenizer: model.tokenizer,
    context: model.context,
    async prefill(context, { attention, signal, room, kv }) {
      const started = performance.now();
      const first = kv?.after === 'context' ? kv.kv : undefined;
      const prefix = await model.prefill(context, { attention, signal, room, kv: first });
      const seconds = (performance.now() - started) / 1000;
      return readContext(prefix, { seconds, signal, room, kv: kv?.after === 'question' ? kv.kv : undefined });
    },
  };
}

interface ReadOptions {
  readonly seconds: number;
  readonly signal: AbortSignal | undefined;
  readonly room: number;
  /** Cuts down context and question together. */
  readonly kv: KvChoice | undefined;
}

function readContext(prefix: Prefix, { seconds, signal, room, kv }: ReadOptions): ReadContext {
  const extended = (prompt: TokenIds, attention: AttentionOptions): Promise<Prefix> =>
    prefix.extend(prompt, { attention, signal, kv, room });
  return {
    seconds,
    density: prefix.stats.density,
    kvBytes: prefix.bytes().total,
    async ask(prompt, attention) {
      const asked = prompt.length > 0 ? await extended(prompt, attention) : prefix;
      return {
        force: (answer, phase) => force(asked, answer, { attention, signal, phase }),
        dispose: () => {
          if (asked !== prefix) asked.dispose();
        },
      };
    },
    async generate(prompt, { limit, ignoreEnd, attention }) {
      // A generation begins with a token of its own: the last one of the question stays behind what is cut down.
      const asked = kv && prompt.length > 1 ? await extended(prompt.slice(0, -1), attention) : prefix;
      try {
        const rest = asked === prefix ? prompt : prompt.slice(-1);
        const generation = generate(asked, rest, { maxTokens: limit, ignoreEos: ignoreEnd, attention, signal });
        const text = await generation.text();
        const { decodeTokens, decodeMs } = generation.stats;
        return { text, decodeTokens, decodeSeconds: decodeMs / 1000 };
      } finally {
        if (asked !== prefix) asked.dispose();
      }
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
