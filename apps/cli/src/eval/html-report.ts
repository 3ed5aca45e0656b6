import {
  depthGrids,
  informativeFrom,
  leastPairs,
  margins,
  resamples,
  type Cell,
  type EvaluationRecord,
  type Payoff,
  type RunFacts,
  type Speed,
  type Task,
} from '@filigree/evaluation';
import { groupBy } from '../group-by.js';
import { percent } from '../format/numbers.js';
import { html, htmlTable, trusted, type Html } from './html.js';
import { depthPlot, scorePlot, speedPlot } from './plots.js';
import {
  cacheText,
  decodeText,
  differenceText,
  intervalText,
  payoffText,
  ratioText,
  scoreText,
  secondsText,
} from './report-text.js';

export interface ReportContent {
  readonly command: string;
  readonly facts: RunFacts;
  readonly tasks: readonly Task[];
  readonly records: readonly EvaluationRecord[];
  readonly cells: readonly Cell[];
  readonly speeds: readonly Speed[];
  readonly payoffs: readonly Payoff[];
  /** Why the run is not whole, if it is not. */
  readonly unfinished: string | undefined;
  readonly planted: Html | undefined;
}

const style = `
:root { color: #222; background: #fff; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 1080px; margin: 2rem auto 4rem; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: 0.2rem; } h2 { margin-top: 2.6rem; border-bottom: 1px solid #ddd; padding-bottom: 0.2rem; }
h3 { margin-top: 1.8rem; } p.lead { color: #555; margin-top: 0; }
table { border-collapse: collapse; font-size: 0.87rem; font-variant-numeric: tabular-nums; margin: 0.8rem 0; }
th, td { padding: 0.25rem 0.7rem; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap; }
th { border-bottom: 2px solid #bbb; font-weight: 600; } .text { text-align: left; } td.text:not(:first-child) { white-space: normal; }
.scroll { overflow-x: auto; } svg { max-width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1.2rem; font-size: 0.9rem; } dt { color: #666; } dd { margin: 0; overflow-wrap: anywhere; }
code { font-size: 0.9em; background: #f5f5f5; padding: 0.1em 0.3em; overflow-wrap: anywhere; }
.worse { color: #a33; font-weight: 600; } .kept { color: #17632f; } .quiet { color: #777; } .note { background: #fff6e0; padding: 0.6rem 1rem; border-left: 4px solid #e6a700; }
`;

/** The report as one HTML file without anything to load. */
export function htmlReport(content: ReportContent): string {
  const { facts, unfinished, planted } = content;
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>Sparse methods on ${facts.model}</title>
        <style>
          ${trusted(style)}
        </style>
      </head>
      <body>
        <h1>Sparse methods on ${facts.model}</h1>
        <p class="lead">Every method beside dense attention on the same prompts, read and asked in one process.</p>
        ${unfinished === undefined ? undefined : html`<p class="note">${unfinished}</p>`} ${payoffPart(content)}
        ${speedPart(content)}
        ${content.tasks.filter((task) => content.cells.some((cell) => cell.task === task)).map((task) => taskPart(task, content))}
        ${planted} ${factsPart(content)}
      </body>
    </html> `;
  return page.html;
}

function payoffPart({ payoffs, cells }: ReportContent): Html {
  if (payoffs.length === 0) return html`<p>Dense attention alone was run: there is nothing to compare.</p>`;
  const informative = new Set(cells.filter(({ verdict }) => verdict === 'baseline').map(({ task }) => task.id));
  const without = [...new Set(cells.map(({ task }) => task.id))].filter((id) => !informative.has(id));
  const rows = payoffs.map((payoff) => [
    html`<code>${payoff.label}</code>`,
    html`${payoffText(payoff).map((line, index) => html`${index === 0 ? undefined : trusted('<br>')}${line}`)}`,
  ]);
  return html`<h2>Where it pays, and where it loses</h2>
    ${htmlTable(['method', 'what was measured'], rows, 2)}
    <p>
      Faster: the 95 % interval of the ratio of times, over contexts that both read, is above 1. Kept: the interval of the
      difference to dense is not below −${margins.score} (bits per token: not above +${margins.bits}). Worse: all of the
      interval is a loss. Everything else is undecided, as is what fewer than ${leastPairs.answers} answers or
      ${leastPairs.times} times say.
      ${without.length > 0 ? `Dense attention cannot do ${without.join(', ')} at any length measured here: nothing follows from these.` : ''}
    </p>`;
}

function speedPart({ speeds }: ReportContent): Html {
  const plots = (['prefill', 'decode'] as const).flatMap((phase) => {
    const svg = speedPlot(speeds, phase);
    return svg === undefined
      ? []
      : [
          html`<h3>${phase === 'prefill' ? 'Reading a prompt' : 'Decoding a token'}, dense time / time</h3>
            ${trusted(svg)}`,
        ];
  });
  const rows = speeds.map((speed) => [
    html`<code>${speed.label}</code>`,
    speed.length.toLocaleString('en-US'),
    String(speed.contexts),
    percent(speed.density),
    secondsText(speed.prefillSeconds),
    ratioText(speed.prefillRatio),
    decodeText(speed),
    ratioText(speed.decodeRatio),
  ]);
  const head = ['method', 'tokens', 'contexts', 'density', 'prompt', 'against dense', 'token', 'against dense'];
  return html`<h2>Speed over length</h2>
    ${plots}${htmlTable(head, rows)}
    <p>
      Times are medians; ratios are geometric means with 95 % bootstrap intervals. Density is the share of query-key pairs of
      the prompt that was computed, cache the bytes of keys and values of the context over those of dense attention; a method
      that cuts down after the question holds all of the context until then.
    </p>`;
}

function taskPart(task: Task, { cells, records }: ReportContent): Html {
  const own = cells.filter((cell) => cell.task === task);
  const usable = own.filter(({ verdict }) => verdict !== 'not informative');
  const grids = task.reading === 'bits' || task.reading === 'ranked' ? [] : depthGrids(records, task);
  const hasDepth = grids.some(({ scores }) => scores.flat().some((score) => score !== null));
  const rows = own.map((cell) => [
    html`<code>${cell.label}</code>`,
    cell.length.toLocaleString('en-US'),
    String(cell.score.count),
    scoreText(cell),
    intervalText(cell),
    differenceText(cell),
    verdict(cell),
    cell.logProb.toFixed(3),
    percent(cell.density),
    cacheText(cell),
  ]);
  const head = [
    'method',
    'tokens',
    'answers',
    scoreName(task),
    '95 %',
    'difference to dense',
    'verdict',
    'log-prob',
    'density',
    'cache',
  ];
  return html`<h2>${task.title} <span class="quiet">(${task.id})</span></h2>
    <p>${readingText(task)}</p>
    ${usable.length > 0 ? trusted(scorePlot(usable)) : html`<p class="note">Not informative: dense attention itself scores below ${informativeFrom(task)} at every length. No claim follows.</p>`}
    ${htmlTable(head, rows)}
    ${
      hasDepth && usable.length > 0
        ? html`<h3>By depth and length</h3>
            ${trusted(depthPlot(grids))}`
        : undefined
    }`;
}

function verdict({ verdict: said }: Cell): Html {
  const kind = said === 'worse' ? 'worse' : said === 'kept' ? 'kept' : 'quiet';
  return html`<span class="${kind}">${said}</span>`;
}

function scoreName({ reading }: Task): string {
  return reading === 'bits' ? 'bits/token' : 'score';
}

function readingText(task: Task): string {
  const threshold = `A length counts where dense attention scores at least ${informativeFrom(task)}.`;
  switch (task.reading) {
    case 'forced':
      return `Share of questions where every token of the right answer is the most likely one (teacher-forced). ${threshold}`;
    case 'tokens':
      return `Share of the tokens of right answers that are the most likely ones (teacher-forced). ${threshold}`;
    case 'generated':
      return `Share of right values in what was generated greedily. ${threshold}`;
    case 'ranked':
      return `Share of right words among the likeliest half of right and wrong ones; ${task.chance} without knowing anything. ${threshold}`;
    case 'bits':
      return 'Bits per token of the end of windows; less is better. Natural text hardly needs far context, so differences are small.';
  }
}

function factsPart({ command, facts, records, tasks }: ReportContent): Html {
  const lengths = [...new Set(records.map(({ length }) => length))].sort((a, b) => a - b);
  const byTask = groupBy(records, ({ task }) => task);
  const contexts = [...byTask].map(([task, own]) => `${task} ${new Set(own.map(({ sample }) => sample)).size}`);
  const entries: readonly (readonly [string, string])[] = [
    ['command', command],
    ['model', `${facts.model}, SHA-256 ${facts.modelHash}`],
    ['tokenizer', `SHA-256 ${facts.tokenizerHash}`],
    ['machine', facts.machine],
    ['backend', `${facts.backend}, ${facts.device}, ${facts.threads} threads`],
    [
      'prompts',
      `${facts.format}; questions read ${facts.questions === 'method' ? 'by the method, as the end of the prompt' : 'with dense attention'}`,
    ],
    ['seed', `${facts.seed}, generators of version ${facts.generatorVersion}`],
    ['lengths', lengths.map((length) => length.toLocaleString('en-US')).join(', ')],
    ['contexts of a task', contexts.join(', ')],
    ['questions of a context', `${facts.queries}, each on a fork of one prefill`],
    [
      'thresholds',
      `a score is informative from ${[...new Set(tasks.map(informativeFrom))].filter((value) => value > 0).join(' or ')} on; kept within ${margins.score} of a score, ${margins.bits} bits`,
    ],
    ['intervals', `95 %; ${resamples} bootstrap resamples of contexts and of answers in them, seed 0; Wilson's for scores`],
    ['records', 'records.jsonl beside this file, one line a context and method'],
    ...(facts.text === '' ? [] : [['text of perplexity', facts.text] as const]),
  ];
  return html`<h2>What was run</h2>
    <dl>
      ${entries.map(
        ([name, value]) =>
          html`<dt>${name}</dt>
            <dd>${value}</dd>`,
      )}
    </dl>
    <p>
      Contexts have the needles of all their questions, so that needles of other questions distract: scores are not those of the
      papers that tasks come from. When no answer of a method differs from dense, its interval is a point; with n answers, a
      loss below 3 / n may have gone unseen.
    </p>`;
}
