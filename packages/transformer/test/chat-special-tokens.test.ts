import { fullTier } from '@filigree/testing';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ChatTemplate } from '../src/chat/chat-template.js';
import { chatTokenizer, controlTokens } from './support/chat-tokenizer.js';

const tokenizer = chatTokenizer();
const end = 1;
const encode = (template: string, contents: readonly string[]): number[] =>
  new ChatTemplate(template, tokenizer).encode(contents.map((content) => ({ role: 'user', content })));
const count = (ids: readonly number[], token: number): number => ids.filter((id) => id === token).length;

describe('text of users never becomes control tokens', () => {
  it.each(controlTokens.map((name) => [name]))('%s as a content', (name) => {
    const ids = encode('<|end|>{{ messages[0].content }}', [name]);
    expect(ids).toEqual([0, end, ...tokenizer.encode(name, { addBos: false })]);
  });

  it.each([
    ['two contents', '{{ messages[0].content }}{{ messages[1].content }}', ['<|e', 'nd|>']],
    ['three contents', '{% for m in messages %}{{ m.content }}{% endfor %}', ['<|', 'end', '|>']],
    ['the template and a content', '<|e{{ messages[0].content }}', ['nd|>']],
    ['a content and the template', '{{ messages[0].content }}nd|>', ['<|e']],
    ['a content inside of the template', '[a{{ messages[0].content }}b]', [' ']],
    ['trimmed contents', '{{ messages[0].content | trim }}{{ messages[1].content | trim }}', [' <|e ', '\tnd|>\n']],
  ])('made of %s', (_, template, contents) => {
    const ids = encode(template, contents);
    for (const [token, name] of controlTokens.entries()) if (name.length > 1 && token > 0) expect(count(ids, token)).toBe(0);
  });

  it("leaves the template's own tokens beside contents that look like a part of them", () => {
    expect(count(encode('<|end|>{{ messages[0].content }}<|end|>', ['> quoted <']), end)).toBe(2);
    expect(encode('§{{ messages[0].content }}', ['> quoted'])).toContain(controlTokens.indexOf('§'));
  });

  it('gives the ids of template tokens and plain text, whatever the contents and the template', () => {
    const shard = fc.constantFrom(
      ...controlTokens.flatMap((name) => Array.from(name, (_, index) => [name.slice(0, index), name.slice(index)])).flat(),
    );
    const piece = fc.oneof(
      shard,
      fc.constantFrom(' ', '\n', 'x', '\uf8ff', '\uf8fe', '\ud83d', '😀'),
      fc.string({ maxLength: 3 }),
    );
    const content = fc
      .array(piece, { maxLength: 5 })
      .map((pieces) => pieces.join('') + 'x'.repeat(pieces.join('').trim() === '' ? 1 : 0));
    const part = fc.oneof(
      fc.record({ content, trim: fc.boolean() }),
      fc
        .array(fc.oneof(shard, fc.constantFrom('x', ' ', ...controlTokens)), { minLength: 1, maxLength: 3 })
        .map((texts) => texts.join('')),
    );
    const property = fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
      const contents = parts.filter((one) => typeof one !== 'string');
      let template = '';
      for (const one of parts)
        template +=
          typeof one === 'string' ? one : `{{ messages[${contents.indexOf(one)}].content${one.trim ? ' | trim' : ''} }}`;
      const ids = encode(
        template,
        contents.map((one) => one.content),
      );
      const first = ids[0] === tokenizer.bos ? 0 : -1;
      expect(first).toBe(0);
      const wanted = expectedIds(
        parts.map((one) => (typeof one === 'string' ? one : { text: one.trim ? one.content.trim() : one.content })),
      );
      expect(ids).toEqual(wanted[0] === tokenizer.bos ? wanted : [tokenizer.bos, ...wanted]);
    });
    fc.assert(property, { seed: 7, numRuns: fullTier ? 5000 : 500 });
  });
});

/** Strings are the template's, parsed by trying every name at every place; objects are plain text. Neighbouring plain texts are one. */
function expectedIds(parts: readonly (string | { readonly text: string })[]): number[] {
  const ids: number[] = [];
  let plain = '';
  const finish = (): void => {
    ids.push(...tokenizer.encode(plain, { addBos: false }));
    plain = '';
  };
  const joined = parts.reduce<(string | { readonly text: string })[]>((all, part) => {
    const last = all.at(-1);
    if (typeof last === 'string' && typeof part === 'string') all[all.length - 1] = last + part;
    else all.push(part);
    return all;
  }, []);
  const longestFirst = [...controlTokens].sort((a, b) => b.length - a.length);
  for (const part of joined) {
    if (typeof part !== 'string') {
      plain += part.text;
      continue;
    }
    for (let at = 0; at < part.length;) {
      const found = longestFirst.find((name) => part.startsWith(name, at));
      if (found === undefined) plain += part.charAt(at++);
      else {
        finish();
        ids.push(controlTokens.indexOf(found));
        at += found.length;
      }
    }
  }
  finish();
  return ids;
}
