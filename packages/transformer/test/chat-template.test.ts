import { Template } from '@huggingface/jinja';
import { describe, expect, it } from 'vitest';
import { ChatTemplate, type ChatMessage } from '../src/chat/chat-template.js';
import { ChatTemplateError } from '../src/chat/errors.js';
import { chatTokenizer } from './support/chat-tokenizer.js';

const tokenizer = chatTokenizer();
const messages: readonly ChatMessage[] = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: ' Why?\n' },
  { role: 'assistant', content: 'Because.' },
  { role: 'user', content: 'How 😀?' },
];

const templates = {
  'turns with roles': `{% for message in messages %}{{ '<|end|>' + message['role'] + '\\n' + message['content'] + '<|end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|end|>assistant\\n' }}{% endif %}`,
  'a system prompt in the first turn': `{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- set prefix = messages[0]['content'] + '\\n\\n' -%}{%- set rest = messages[1:] -%}{%- else -%}{%- set prefix = '' -%}{%- set rest = messages -%}{%- endif -%}{%- for message in rest -%}{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception("roles must alternate") }}{%- endif -%}<{{ message['role'] }}>{{ prefix if loop.first else '' }}{{ message['content'] | trim }}{{ eos_token }}{%- endfor -%}`,
  'a namespace, a macro and filtered loops': `{%- set ns = namespace(last=0) -%}{%- macro turn(m) -%}[{{ m.role | upper }}] {{ m.content | trim }}{%- endmacro -%}{%- for m in messages if m.role != 'system' -%}{%- set ns.last = loop.index -%}{{ turn(m) }}{%- endfor -%}{{ ns.last }}{% for i in range(1, 6, 2) %}{{ i }},{% endfor %}{{ messages | length }}{{ none is none }}{{ True and not False }}`,
};

describe('chat templates', () => {
  it.each(Object.entries(templates))('render as by the library itself: %s', (_, source) => {
    for (const addGenerationPrompt of [false, true]) {
      const text = new ChatTemplate(source, tokenizer).render(messages, { addGenerationPrompt });
      const variables = { messages, add_generation_prompt: addGenerationPrompt, bos_token: '<s>', eos_token: '<|end|>' };
      expect(text).toBe(new Template(source).render(variables));
      expect(text).toContain('Because.');
    }
  });

  it.each(Object.entries(templates))('encode to the tokens of what they render: %s', (_, source) => {
    const template = new ChatTemplate(source, tokenizer);
    const joined = tokenizer.encode(template.render(messages), { special: true, addBos: false });
    expect(template.encode(messages)).toEqual(joined[0] === tokenizer.bos ? joined : [tokenizer.bos, ...joined]);
  });

  it('begin with bos once, whether the template writes it or not', () => {
    for (const source of ['{{ bos_token }}{{ messages[0].content }}', '{{ messages[0].content }}'])
      expect(new ChatTemplate(source, tokenizer).encode([{ role: 'user', content: 'x' }])).toEqual(tokenizer.encode('x'));
  });

  it('give templates further variables, and the date in English', () => {
    const source = '{{ mood }} {{ strftime_now("%Y-%m-%d %B %q %%") }}';
    const text = new ChatTemplate(source, tokenizer).render([], { variables: { mood: 'merry' } });
    expect(text).toMatch(
      /^merry \d{4}-\d\d-\d\d (January|February|March|April|May|June|July|August|September|October|November|December) %q %$/,
    );
  });

  it('show a template the role and the content of a message only', () => {
    const message = { role: 'user', content: 'x', name: '<|end|>' } as const;
    const source = '{{ messages[0].name }}{{ messages[0].content }}';
    expect(new ChatTemplate(source, tokenizer).encode([message])).toEqual(tokenizer.encode('x'));
  });
});

describe('what is wrong with a template or a message is a ChatTemplateError', () => {
  const render = (source: string): string => new ChatTemplate(source, tokenizer).render(messages);

  it.each(['{% for %}', '{{ "', '{% if x %}', '{{ messages['])('no Jinja: %s', (source) => {
    expect(() => new ChatTemplate(source, tokenizer)).toThrow(ChatTemplateError);
  });

  it("with the template's own words", () => {
    expect(() => render('{{ raise_exception("no system role") }}')).toThrow(
      new ChatTemplateError('the chat template refuses the messages or fails on them: no system role'),
    );
  });

  it.each([
    ['a loop over a huge range', '{% for i in range(1000000000) %}{% endfor %}'],
    ['a range without an end', '{{ range(0, 1, 1e-300) | length }}'],
    ['loops in loops', `${'{% for i in range(9000) %}'.repeat(4)}${'{% endfor %}'.repeat(4)}`],
    ['a text that doubles', '{% set ns = namespace(t="ab") %}{% for i in range(99) %}{% set ns.t = ns.t + ns.t %}{% endfor %}'],
    [
      'a text that grows on and on',
      '{% set ns = namespace(t="") %}{% for i in range(9000) %}{% set ns.t = ns.t + "abcdefghijklmnopqrstuvwxyz" * 1 %}{% endfor %}',
    ],
    ['a macro that calls itself', '{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}'],
    [
      'an array that doubles',
      '{% set ns = namespace(a=[1]) %}{% for i in range(99) %}{% set ns.a = ns.a + ns.a %}{% endfor %}',
    ],
  ])('%s', (_, source) => {
    expect(() => render(source)).toThrow(ChatTemplateError);
  });

  it.each([
    ['messages', 'x'],
    ['messages[0]', [null]],
    ['messages[0].role', [{ role: 'boss', content: 'x' }]],
    [
      'messages[1].content',
      [
        { role: 'user', content: 'x' },
        { role: 'user', content: 7 },
      ],
    ],
  ])('a wrong %s', (name, wrong) => {
    const template = new ChatTemplate('{{ messages }}', tokenizer);
    const startsWithName = (error: unknown): boolean =>
      error instanceof ChatTemplateError && error.message.startsWith(`${name}:`);
    for (const call of [() => template.render(wrong as ChatMessage[]), () => template.encode(wrong as ChatMessage[])])
      expect(call).toThrow(expect.toSatisfy(startsWithName) as Error);
  });

  it('is not made of a long conversation', () => {
    const many = Array.from(
      { length: 2000 },
      (_, index) => ({ role: index % 2 ? 'assistant' : 'user', content: 'word '.repeat(50) }) as const,
    );
    for (const source of Object.values(templates))
      expect(new ChatTemplate(source, tokenizer).render(many).length).toBeGreaterThan(400_000);
  });
});
