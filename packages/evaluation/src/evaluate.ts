import { OptionError, throwIfAborted } from '@filigree/core-tensor';
import { attentionOf, kvOf } from './method-run.js';
import type { PromptFormat } from './prompt-format.js';
import { readSample } from './read-sample.js';
import {
  denseRun,
  methodLabel,
  recordKey,
  recordVersion,
  scoreOf,
  type EvaluationRecord,
  type MethodRun,
  type RecordLog,
  type RunFacts,
} from './record.js';
import { wilson } from './statistics.js';
import type { Subject } from './subject.js';
import { informativeFrom, type Sample, type Task } from './task.js';

export interface EvaluateOptions {
  readonly subject: Subject;
  readonly format: PromptFormat;
  readonly facts: RunFacts;
  readonly tasks: readonly Task[];
  /** Beside dense attention, which always runs. */
  readonly methods: readonly MethodRun[];
  /** Most tokens of context, question and answer. */
  readonly lengths: readonly number[];
  /** Contexts of every task and length. */
  readonly samples: number;
  /** Records that are there already are not made again. */
  readonly log: RecordLog;
  /** Generate answers for every task, beside forcing them. */
  readonly generate?: boolean | undefined;
  /** Decode steps that are timed on every context; default 16. */
  readonly decodeTokens?: number | undefined;
  /** Asked before every context: true ends the run, which can be taken up later. */
  readonly outOfTime?: (() => boolean) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** After each context. */
export interface EvaluateProgress {
  /** Contexts that are done or were left out, of all. */
  readonly done: number;
  readonly total: number;
  /** What was read just now; undefined for what was there before or left out. */
  readonly record: EvaluationRecord | undefined;
}

/**
 * Reads every context dense and with every method and asks all questions. Goes through sample after sample, so that a run that is ended early
 * has as many of every task, length and method. A task that dense attention cannot do at a length is left out there once that is certain.
 *
 * @throws OptionError, ContextLengthError and what the model fails with.
 */
export async function* evaluate(options: EvaluateOptions): AsyncGenerator<EvaluateProgress, void, undefined> {
  const { tasks, lengths, samples, log, facts, outOfTime, signal } = options;
  checkOptions(options);
  const methods = [denseRun, ...options.methods.filter((method) => methodLabel(method) !== methodLabel(denseRun))];
  const records = new Map(log.records.map((record) => [recordKey(record), record]));
  const dense = new DenseScores();
  const total = samples * lengths.length * tasks.length * methods.length;
  let done = 0;
  for (let sample = 0; sample < samples; sample++) {
    for (const length of lengths) {
      for (const task of tasks) {
        let made: Sample | undefined;
        for (const method of methods) {
          const { kvPlan: _, ...named } = method;
          const place = { task: task.id, method: named, length, sample };
          const known = records.get(recordKey({ ...facts, ...place }));
          let record: EvaluationRecord | undefined;
          if (!known && !dense.hopeless(task, length)) {
            throwIfAborted(signal);
            if (outOfTime?.() === true) return;
            made ??= sampleOf(options, task, { length, sample });
            const result = await readSample(options.subject, task, made, {
              attention: attentionOf(method),
              kv: kvOf(method),
              questions: facts.questions,
              generate: options.generate ?? false,
              decodeTokens: options.decodeTokens ?? 16,
              signal,
            });
            record = { version: recordVersion, ...facts, ...place, ...result };
            await log.append(record);
          }
          const read = record ?? known;
          if (read && method === denseRun) dense.add(task, read);
          yield { done: ++done, total, record };
        }
      }
    }
  }
}

function sampleOf(
  { subject, format, facts }: EvaluateOptions,
  task: Task,
  { length, sample }: { length: number; sample: number },
): Sample {
  const { tokenizer } = subject;
  return task.sample({ seed: facts.seed, tokens: length, tokenizer, format, index: sample, queries: facts.queries });
}

/** Scores of dense attention so far, by task and length. */
class DenseScores {
  readonly #scores = new Map<string, number[]>();

  add(task: Task, { length, answers }: EvaluationRecord): void {
    const scores = answers.map((answer) => scoreOf(task, answer));
    this.#scores.set(`${task.id} ${length}`, [...(this.#scores.get(`${task.id} ${length}`) ?? []), ...scores]);
  }

  /** Whether the task is certainly not informative at this length: the upper end of the interval of dense attention is below the threshold. */
  hopeless(task: Task, length: number): boolean {
    if (task.reading === 'bits') return false;
    const scores = this.#scores.get(`${task.id} ${length}`) ?? [];
    const sum = scores.reduce((all, score) => all + score, 0);
    return wilson(sum, scores.length).high < informativeFrom(task);
  }
}

function checkOptions({ subject, tasks, methods, lengths, samples, facts }: EvaluateOptions): void {
  if (tasks.length === 0) throw new OptionError('evaluate: there are no tasks');
  for (const method of methods) if (!kvOf(method)) attentionOf(method);
  if (!Number.isInteger(samples) || samples < 1)
    throw new OptionError(`evaluate: samples is ${samples}, it must be a positive integer`);
  if (!Number.isInteger(facts.queries) || facts.queries < 1)
    throw new OptionError(`evaluate: queries is ${facts.queries}, it must be a positive integer`);
  for (const length of lengths) {
    if (!Number.isInteger(length) || length < 1 || length > subject.context)
      throw new OptionError(`evaluate: length is ${length}, the model takes 1 to ${subject.context} tokens`);
  }
}
