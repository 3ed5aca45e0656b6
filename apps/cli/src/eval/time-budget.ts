import {
  denseRun,
  recordKey,
  type EvaluationRecord,
  type MethodRun,
  type RunFacts,
  type Subject,
  type Task,
} from '@filigree/evaluation';

export interface Workload {
  readonly tasks: readonly Task[];
  readonly methods: readonly MethodRun[];
  readonly lengths: readonly number[];
  readonly samples: number;
  readonly facts: RunFacts;
  readonly records: readonly EvaluationRecord[];
}

/** Tokens of the two prompts that are measured. */
const measuredTokens = [256, 1024] as const;

/** Seconds of a run, from above: as if every method took as long as dense attention. */
export interface TimeEstimate {
  readonly contexts: number;
  readonly seconds: number;
}

/**
 * Estimates what is left to do from two short dense prompts: their times are a·n + b·n² for linear layers and attention. Questions and decode
 * steps are counted as tokens decoded one at a time.
 */
export async function estimateTime(subject: Subject, work: Workload, signal: AbortSignal): Promise<TimeEstimate> {
  const measure = async (tokens: number): Promise<{ prefill: number; decode: number }> => {
    const text = subject.tokenizer.encode('word '.repeat(tokens)).slice(0, Math.min(tokens, subject.context - 16));
    const context = await subject.prefill(text, { attention: {}, signal, room: 256 });
    try {
      const made = await context.generate(text.slice(-1), { limit: 5, ignoreEnd: true, attention: {} });
      return { prefill: context.seconds, decode: made.decodeSeconds / Math.max(1, made.decodeTokens) };
    } finally {
      context.dispose();
    }
  };
  // The first prompt after loading is slower than all others.
  await measure(measuredTokens[0]);
  const [short, long] = [await measure(measuredTokens[0]), await measure(measuredTokens[1])];
  const [n, m] = measuredTokens;
  const square = Math.max(0, (long.prefill / m - short.prefill / n) / (m - n));
  const linear = Math.max(0, short.prefill / n - square * n);
  const known = new Set(work.records.map(recordKey));
  let [contexts, seconds] = [0, 0];
  for (const length of work.lengths) {
    for (const task of work.tasks) {
      const asked = task.reading === 'bits' || task.reading === 'ranked' ? 1 : work.facts.queries;
      const decoded = asked * (task.reading === 'generated' ? task.limit : 8) + 16;
      for (const method of [denseRun, ...work.methods]) {
        for (let sample = 0; sample < work.samples; sample++) {
          if (known.has(recordKey({ ...work.facts, task: task.id, method, length, sample }))) continue;
          contexts++;
          seconds += linear * length + square * length ** 2 + decoded * long.decode;
        }
      }
    }
  }
  return { contexts, seconds };
}
