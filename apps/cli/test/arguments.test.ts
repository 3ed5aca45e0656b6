import { describe, expect, it } from 'vitest';
import { run } from './support/run.js';

const model = ['--model', 'absent.gguf'];
const prompt = ['--prompt', 'x'];

const shared = ['--model', '--backend', '--threads', '--context', '--kv-type'];
const sampling = [
  '--max-tokens',
  '--temperature',
  '--top-k',
  '--top-p',
  '--min-p',
  '--seed',
  '--stop',
  '--ignore-eos',
  '--prefill-attention',
  '--decode-attention',
  '--head-plan',
  '--kv',
  '--speculate',
  '--gamma',
];

/** Options that the help of each command must explain. */
const documented = {
  generate: ['--prompt', ...shared, ...sampling, '--chat', '--system', '--no-stats', '--json'],
  chat: [...shared, ...sampling, '--system', '--no-stats', '--json'],
  inspect: ['--summary', '--full', '--json'],
  quantize: [
    ...['--type', '--rule', '--pure', '--allow-requantize', '--dry-run', '--quality', '--text', '--windows', '--force'],
    ...['--backend', '--threads', '--json'],
  ],
  calibrate: [...shared, '--method', '--bound', '--text', '--length', '--samples', '--out', '--force'],
  eval: [
    ...['--method', '--task', '--length', '--samples', '--queries', '--out', '--budget', '--seed', '--text', '--format'],
    ...['--kv', '--head-plan', '--questions', '--generate', ...shared, '--json'],
  ],
  'kv-types': [...shared.filter((option) => option !== '--kv-type'), '--types', '--text', '--windows', '--json'],
  models: ['--json'],
  methods: ['--json'],
  demo: ['--model', '--question', '--threads', '--json'],
} as const;

describe('help', () => {
  it('lists every command, on standard output', async () => {
    const { code, stdout, stderr } = await run(['--help']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const listed = [...stdout.matchAll(/^ {2}(\w[\w-]*) /gm)].map(([, name]) => name);
    expect(listed.sort()).toEqual(Object.keys(documented).sort());
  });

  it.each(Object.entries(documented))('%s explains its options', async (command, options) => {
    const { code, stdout } = await run([command, '--help']);
    expect(code).toBe(0);
    const explained = [...stdout.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)].map(([, name]) => name);
    expect(explained.sort()).toEqual([...options, '--help'].sort());
  });

  it('without a command: the help on standard error, and exit code 2', async () => {
    const { code, stdout, stderr } = await run([]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('generate');
  });

  it('--version prints the version of the package', async () => {
    const { code, stdout } = await run(['--version']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\S*\n$/);
  });
});

describe('wrong arguments end with code 2 and one line that names them', () => {
  const wrong: readonly (readonly [args: readonly string[], message: string])[] = [
    [['frobnicate'], "unknown command 'frobnicate'"],
    [['inspct', 'x'], "unknown command 'inspct' (Did you mean inspect?)"],
    [['inspect'], "missing required argument 'file'"],
    [['inspect', 'a', 'b'], "too many arguments for 'inspect'"],
    [['methods', '--jsn'], "unknown option '--jsn' (Did you mean --json?)"],
    [['generate', ...prompt], "required option '-m, --model <source>' not specified"],
    [['generate', ...model, '--prompt'], "option '-p, --prompt <text>' argument missing"],
    [['eval', ...model, '--out', 'x', '--method', 'magic'], "option '--method <list>' argument 'magic' is invalid"],
    [['eval', ...model, '--out', 'x', '--method', 'a-shape', '--task', 'haystack'], 'there is no task "haystack"'],
    [
      ['eval', ...model, '--out', 'x', '--method', 'a-shape', '--length', '1k'],
      "option '--length <list>' argument '1k' is invalid",
    ],
    [['eval', ...model, '--method', 'a-shape'], "required option '--out <folder>' not specified"],
    [['chat'], "required option '-m, --model <source>' not specified"],
    [['generate', ...model, ...prompt, '--backend', 'cuda'], "option '--backend <name>' argument 'cuda' is invalid"],
    [['generate', ...model, ...prompt, '--kv-type', 'q8'], "option '--kv-type <type>' argument 'q8' is invalid"],
    [['generate', ...model, ...prompt, '--kv-type', 'int8/f16'], "'int8/f16' is invalid"],
    [['kv-types', ...model, '--types', 'int8,q8'], 'There is no type "q8"'],
    [['generate', ...model, ...prompt, '--threads', '0'], "option '--threads <n>' argument '0' is invalid"],
    [['generate', ...model, ...prompt, '--threads', '2x'], "option '--threads <n>' argument '2x' is invalid"],
    [['generate', ...model, ...prompt, '--threads=-1'], "option '--threads <n>' argument '-1' is invalid"],
    [['generate', ...model, ...prompt, '--context', '0'], "option '--context <tokens>' argument '0' is invalid"],
    [['generate', ...model, ...prompt, '--max-tokens', '1.5'], "option '-n, --max-tokens <n>' argument '1.5' is invalid"],
    [['generate', ...model, ...prompt, '--temperature', 'hot'], "option '--temperature <t>' argument 'hot' is invalid"],
    [['generate', ...model, ...prompt, '--temperature=-1'], "option '--temperature <t>' argument '-1' is invalid"],
    [['generate', ...model, ...prompt, '--temperature', 'NaN'], "option '--temperature <t>' argument 'NaN' is invalid"],
    [['generate', ...model, ...prompt, '--top-k', '0'], "option '--top-k <k>' argument '0' is invalid"],
    [['generate', ...model, ...prompt, '--top-p', '0'], "option '--top-p <p>' argument '0' is invalid"],
    [['generate', ...model, ...prompt, '--top-p', '1.01'], "option '--top-p <p>' argument '1.01' is invalid"],
    [['generate', ...model, ...prompt, '--min-p', '2'], "option '--min-p <p>' argument '2' is invalid"],
    [['generate', ...model, ...prompt, '--seed', '1e999'], "option '--seed <n>' argument '1e999' is invalid"],
    [['generate', ...model, ...prompt, '--stop', ''], "option '--stop <text>' argument '' is invalid"],
    ...['--prefill-attention', '--decode-attention'].map((option): [string[], string] => [
      ['generate', ...model, ...prompt, option, 'magic'],
      `option '${option} <method>' argument 'magic' is invalid`,
    ]),
    [['generate', ...model, ...prompt, '--prefill-attention', 'streaming-llm:sink=4'], 'not "sink"'],
    [['generate', ...model, ...prompt, '--prefill-attention', 'streaming-llm:sinks'], '"sinks" is not option=value'],
    [['generate', ...model, ...prompt, '--prefill-attention', 'streaming-llm:window=0'], 'window is 0'],
    [['generate', ...model, ...prompt, '--prefill-attention', 'streaming-llm:window=x'], 'window is NaN'],
    [['generate', ...model, ...prompt, '--decode-attention', 'x-attention'], 'Methods of decode are dense, '],
    [['chat', ...model, '--head-plan', 'absent.json'], "option '--head-plan <file>' argument 'absent.json' is invalid"],
    [['generate', ...model, ...prompt, '--head-plan', 'package.json'], 'head plan: version is undefined'],
    [['generate', ...model, ...prompt, '--kv', 'quest'], 'Methods of the cache are '],
    [['generate', ...model, ...prompt, '--kv', 'snap-kv:budget=0'], 'budget is 0'],
    [['chat', ...model, '--kv', 'snap-kv:after=question'], 'not "after"'],
    [['eval', ...model, '--out', 'absent', '--kv', 'snap-kv:after=noon'], 'after is context or question'],
    [['generate', ...model, ...prompt, '--frob'], "unknown option '--frob'"],
  ];

  it.each(wrong)('%j', async (args, message) => {
    const { code, stdout, stderr } = await run(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^filigree: [^\n]+\n$/);
    expect(stderr).toContain(message);
  });
});

describe('what fails later ends with code 1', () => {
  it('a model that nobody has: each place that was tried', async () => {
    const { code, stdout, stderr } = await run(['generate', ...model, ...prompt]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^filigree: MODEL_NOT_FOUND: .*absent\.gguf/);
    expect(stderr).toMatch(/^ {2}path: /m);
  });
});

describe('methods', () => {
  it('prints what can be chosen for prompts and for decoding', async () => {
    const { code, stdout } = await run(['methods', '--json']);
    expect(code).toBe(0);
    const methods = JSON.parse(stdout) as { kind: string; id: string; options: Record<string, number> }[];
    const streaming = methods.filter(({ id }) => id === 'streaming-llm').map(({ kind, options }) => [kind, options]);
    expect(streaming).toEqual([
      ['attention', expect.objectContaining({ sinks: 4, window: 512 })],
      ['kv', { budget: 516, sinks: 4 }],
    ]);
    const table = (await run(['methods'])).stdout;
    for (const { id } of methods) expect(table).toMatch(new RegExp(`^${id} `, 'm'));
  });
});
