/** The element of the page with an id. @throws Error when index.html has none of this kind. */
export function element<T extends Element>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`index.html: there is no ${kind.name} with the id "${id}"`);
  return found;
}

/** A new element with text, which is never parsed as HTML. */
export function create<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  { text, className }: { text?: string | undefined; className?: string | undefined } = {},
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className !== undefined) made.className = className;
  return made;
}

/** Replaces the terms of a description list. */
export function describe(list: HTMLElement, terms: readonly (readonly [term: string, value: string])[]): void {
  list.replaceChildren(
    ...terms.map(([term, value]) => {
      const pair = create('div');
      pair.append(create('dt', { text: term }), create('dd', { text: value }));
      return pair;
    }),
  );
}
