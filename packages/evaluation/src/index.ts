export { depthBins, depthGrids, type DepthGrid } from './depth-grid.js';
export { evaluate, type EvaluateOptions, type EvaluateProgress } from './evaluate.js';
export { sha256, tokenizerHash } from './hash.js';
export { attentionOf, kvOf, kvRun, phaseOf, planRun, type KvMoment, type NamedKvPlan } from './method-run.js';
export { modelSubject } from './model-subject.js';
export { payoffsOf, type Payoff } from './payoff.js';
export { chatFormat, plainFormat, type PromptFormat, type PromptText, type PromptTokens } from './prompt-format.js';
export { planted, type PlantedKind, type PlantedOptions, type PlantedResult } from './planted.js';
export { readSample, type ReadSampleOptions, type SampleResult } from './read-sample.js';
export {
  denseRun,
  formatRecord,
  memoryLog,
  methodLabel,
  parseRecords,
  recordKey,
  recordVersion,
  scoreOf,
  type AnswerRecord,
  type EvaluationRecord,
  type MethodRun,
  type ParsedRecords,
  type RecordLog,
  type RunFacts,
} from './record.js';
export { containedShare, firstInteger } from './score.js';
export { bootstrap, mean, meanOf, median, resamples, wilson, type Interval, type Mean } from './statistics.js';
export type { Asked, Forced, Generated, GenerateFrom, ReadContext, Subject, SubjectOptions } from './subject.js';
export { cellsOf, leastPairs, margins, speedsOf, type Cell, type Ratio, type Speed, type Verdict } from './summary.js';
export {
  generatorVersion,
  informativeFrom,
  type Query,
  type Reading,
  type Sample,
  type SampleOptions,
  type Task,
  type TokenIds,
} from './task.js';
export { allTasks, taskGroups, tasksNamed } from './tasks/catalogue.js';
export { perplexityTasks } from './tasks/perplexity.js';
