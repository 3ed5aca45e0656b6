import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseChatCommand } from '../src/chat/chat-commands.js';
import { ModelFolder } from './support/models.js';
import { run } from './support/run.js';

const folder = new ModelFolder();
let model: string;

beforeAll(async () => {
  model = await folder.model();
});

afterAll(() => {
  folder.remove();
});

function chat(input: string, ...args: string[]) {
  return run(['chat', '--model', model, '--max-tokens', '4', '--ignore-eos', ...args], { input });
}

interface Printed {
  readonly text: string;
  readonly stats: { readonly promptTokens: number; readonly cachedTokens: number };
}

async function answers(input: string, ...args: string[]): Promise<Printed[]> {
  const { code, stdout } = await chat(input, '--json', ...args);
  expect(code).toBe(0);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Printed);
}

describe('chat from a pipe', () => {
  it('answers every line, empty ones aside', async () => {
    expect(await answers('one\n\ntwo\n  \nthree')).toHaveLength(3);
  });

  it('remembers the conversation, until /clear', async () => {
    const [first, second, cleared] = await answers('one\none\n/clear\none\n');
    expect(second.stats.promptTokens).toBeGreaterThan(first.stats.promptTokens);
    expect(cleared).toEqual({ ...cleared, text: first.text });
    expect(cleared.stats.promptTokens).toBe(first.stats.promptTokens);
  });

  it('reads what was said once, in pages of 64 tokens, and says the same as if it read all', async () => {
    const long = `${'the user is the one to be '.repeat(20)}\ntwo\n/clear\ntwo\n`;
    const [first, second, cleared] = await answers(long);
    expect(first.stats.cachedTokens).toBe(0);
    expect(second.stats.cachedTokens).toBeGreaterThanOrEqual(64);
    expect(second.stats.cachedTokens % 64).toBe(0);
    expect(second.stats.promptTokens).toBeLessThan(first.stats.promptTokens);
    expect(cleared.stats.cachedTokens).toBe(0);
    const whole = await answers(long, '--kv-type', 'kivi4');
    expect(whole.map(({ stats }) => stats.cachedTokens)).toEqual([0, 0, 0]);
  });

  it('/system sets what --system sets', async () => {
    const [given] = await answers('one\n', '--system', 'the user');
    const [typed] = await answers('/system the user\none\n');
    expect(typed.text).toBe(given.text);
    expect(typed.stats.promptTokens).toBe(given.stats.promptTokens);
  });

  it('/exit leaves what follows unread', async () => {
    expect(await answers('one\n/exit\ntwo\n')).toHaveLength(1);
  });

  it('prints answers alone on standard output', async () => {
    const { code, stdout, stderr } = await chat('/help\n/frob\none\n');
    const [{ text }] = await answers('one\n');
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${text}\n` });
    expect(stderr).toContain('/clear');
    expect(stderr).toContain('There is no command /frob');
    expect(stderr).toContain('density');
  });

  it('ends with code 1 when a message does not fit', async () => {
    const { code, stderr } = await chat(`${'x '.repeat(200)}\n`, '--context', '64');
    expect(code).toBe(1);
    expect(stderr).toMatch(/CONTEXT_LENGTH/);
  });

  it('needs a chat template', async () => {
    const plain = await folder.model('plain.gguf', { chat: false });
    const { code, stderr } = await run(['chat', '--model', plain], { input: 'one\n' });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^filigree: CHAT_TEMPLATE: .*plain\.gguf/);
  });
});

describe('lines that begin with a slash', () => {
  it.each([
    ['/help', { name: 'help' }],
    [' /exit ', { name: 'exit' }],
    ['/system be brief', { name: 'system', text: 'be brief' }],
    ['/system', { name: 'system', text: '' }],
    ['/frob', { name: 'unknown', word: '/frob' }],
    ['/usr/bin is what?', undefined],
    ['a /help', undefined],
  ])('%s', (line, command) => {
    expect(parseChatCommand(line)).toEqual(command);
  });
});
