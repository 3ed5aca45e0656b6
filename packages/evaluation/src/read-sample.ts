import { throwIfAborted } from '@filigree/core-tensor';
import type { AttentionOptions } from '@filigree/transformer';
import { denseRun, type AnswerRecord, type EvaluationRecord } from './record.js';
import { mean } from './statistics.js';
import type { Asked, Forced, ReadContext, Subject, SubjectOptions } from './subject.js';
import type { Query, Sample, Task, TokenIds } from './task.js';

export interface ReadSampleOptions {
  readonly attention: AttentionOptions;
  readonly kv?: SubjectOptions['kv'];
  /** Attention of questions, where it is not that of the prompt. */
  readonly questions: 'method' | 'dense';
  /** Whether answers are generated where the task does not ask for it. */
  readonly generate: boolean;
  /** Decode steps that are timed; 0: none. */
  readonly decodeTokens: number;
  readonly signal?: AbortSignal | undefined;
}

/** What a sample read by a method gave. */
export type SampleResult = Pick<
  EvaluationRecord,
  'contextTokens' | 'answers' | 'density' | 'kvBytes' | 'prefillSeconds' | 'questionSeconds' | 'decodeSeconds'
>;

/** Positions beside those of prompts and answers: forks copy the page that they write into. */
const spareRoom = 256;

/** Reads the context once and asks every question on a fork of it. */
export async function readSample(
  subject: Subject,
  task: Task,
  sample: Sample,
  { attention, kv, questions, generate, decodeTokens, signal }: ReadSampleOptions,
): Promise<SampleResult> {
  const generates = task.limit > 0 && (generate || task.reading === 'generated');
  const longest = Math.max(...sample.queries.map((query) => roomOf(query, Math.max(generates ? task.limit : 0, decodeTokens))));
  const context = await subject.prefill(sample.context, { attention, kv, signal, room: longest + spareRoom });
  try {
    const asking = questions === 'method' ? attention : { ...attention, prefill: { method: denseRun.id } };
    const started = performance.now();
    const forced: AnswerRecord[] = [];
    for (const query of sample.queries) {
      throwIfAborted(signal);
      forced.push(await forcedAnswer(context, task, { query, contextTokens: sample.context.length, attention: asking }));
    }
    const questionSeconds = (performance.now() - started) / 1000;
    const answers = generates ? await generatedAnswers(context, task, { sample, forced, attention: asking }) : forced;
    const [first] = sample.queries;
    const timed =
      decodeTokens > 0 && first.prompt.length > 0
        ? await context.generate(first.prompt, { limit: decodeTokens + 1, ignoreEnd: true, attention: asking })
        : undefined;
    return {
      contextTokens: sample.context.length,
      answers,
      density: context.density,
      kvBytes: context.kvBytes,
      prefillSeconds: context.seconds,
      questionSeconds,
      decodeSeconds: timed && timed.decodeTokens > 0 ? timed.decodeSeconds / timed.decodeTokens : null,
    };
  } finally {
    context.dispose();
  }
}

function roomOf({ prompt, answer, ranking }: Query, generated: number): number {
  const answers = [answer, ...(ranking ? [...ranking.right, ...ranking.wrong] : [])].map(({ length }) => length);
  return prompt.length + Math.max(generated, ...answers);
}

async function forcedAnswer(
  context: ReadContext,
  { phase }: Task,
  { query, contextTokens, attention }: { query: Query; contextTokens: number; attention: AttentionOptions },
): Promise<AnswerRecord> {
  const asked = await context.ask(query.prompt, attention);
  try {
    const { logProbs, top } = await asked.force(query.answer, phase);
    const hits = top.filter(Boolean).length;
    return {
      depth: depthOf(query, contextTokens),
      exact: hits === top.length ? 1 : 0,
      tokens: hits / top.length,
      logProb: mean(logProbs),
      forced: top.length,
      ranked: query.ranking ? await rankedShare(asked, query.ranking, phase) : null,
      generated: null,
      output: null,
    };
  } finally {
    asked.dispose();
  }
}

/** Share of right answers among the likeliest half, by the mean log-probability of their tokens; where all are alike, nothing is known. */
async function rankedShare(
  asked: Asked,
  { right, wrong }: { readonly right: readonly TokenIds[]; readonly wrong: readonly TokenIds[] },
  phase: Task['phase'],
): Promise<number> {
  const likelihood = ({ logProbs }: Forced): number => mean(logProbs);
  const scores: { score: number; isRight: boolean }[] = [];
  for (const [answers, isRight] of [
    [wrong, false],
    [right, true],
  ] as const) {
    for (const answer of answers) scores.push({ score: likelihood(await asked.force(answer, phase)), isRight });
  }
  // Wrong ones come first among equals.
  const best = scores.sort((a, b) => b.score - a.score).slice(0, right.length);
  return best.filter(({ isRight }) => isRight).length / right.length;
}

async function generatedAnswers(
  context: ReadContext,
  task: Task,
  { sample, forced, attention }: { sample: Sample; forced: readonly AnswerRecord[]; attention: AttentionOptions },
): Promise<AnswerRecord[]> {
  const answers: AnswerRecord[] = [];
  for (const [index, query] of sample.queries.entries()) {
    const { text } = await context.generate(query.prompt, { limit: task.limit, ignoreEnd: false, attention });
    answers.push({ ...forced[index], generated: text.trim() === '' ? 0 : task.score(query, text), output: text });
  }
  return answers;
}

/** Middle of the evidence; null where there is none or it is all over the context. */
function depthOf({ spans }: Query, tokens: number): number | null {
  if (spans.length !== 1) return null;
  const [[start, end]] = spans;
  return end - start > tokens / 2 ? null : (start + end) / 2 / tokens;
}
