import { create, element } from '../elements.js';

/** An answer as it grows. */
export interface AnswerView {
  append(text: string, token: number): void;
  readonly text: string;
  /** `note` says how it ended, where that is worth a word. */
  finish(note?: string): void;
  remove(): void;
}

/** The messages on the page, newest last and in view. */
export class ConversationView {
  readonly #list = element('conversation', HTMLOListElement);

  clear(): void {
    this.#list.replaceChildren();
  }

  /** Shows what the user wrote; calling the result removes it. */
  addQuestion(text: string): () => void {
    const item = this.#add('user', 'You');
    item.append(create('p', { text }));
    this.#list.scrollTop = this.#list.scrollHeight;
    return () => item.remove();
  }

  addAnswer(): AnswerView {
    const item = this.#add('assistant', 'Model');
    const body = create('p');
    const written = document.createTextNode('');
    body.append(written);
    item.append(body);
    item.classList.add('writing');
    // Readers of the log are told of the whole answer, not of each token.
    this.#list.ariaBusy = 'true';
    const tokens: number[] = [];
    return {
      append: (text, token) => {
        const follow = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 40;
        written.appendData(text);
        tokens.push(token);
        item.dataset['tokens'] = tokens.join(' ');
        if (follow) this.#list.scrollTop = this.#list.scrollHeight;
      },
      get text() {
        return written.data;
      },
      finish: (note) => {
        item.classList.remove('writing');
        this.#list.ariaBusy = 'false';
        if (note !== undefined) item.append(create('small', { text: note, className: 'hint' }));
        this.#list.scrollTop = this.#list.scrollHeight;
      },
      remove: () => {
        item.remove();
        this.#list.ariaBusy = 'false';
      },
    };
  }

  #add(role: 'user' | 'assistant', author: string): HTMLLIElement {
    const item = create('li', { className: role });
    item.append(create('span', { text: author, className: 'author' }));
    this.#list.append(item);
    return item;
  }
}
