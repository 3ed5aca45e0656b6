import { element } from '../elements.js';

export interface ComposerEvents {
  readonly send: (text: string) => void;
  readonly stop: () => void;
  readonly newChat: () => void;
}

/** Where the user writes. Enter sends, Shift+Enter begins a line. */
export class Composer {
  readonly #form = element('composer', HTMLFormElement);
  readonly #prompt = element('prompt', HTMLTextAreaElement);
  readonly #send = element('send', HTMLButtonElement);
  readonly #stop = element('stop', HTMLButtonElement);

  constructor({ send, stop, newChat }: ComposerEvents) {
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      const text = this.#prompt.value.trim();
      if (text !== '' && !this.#send.hidden) send(text);
    });
    this.#prompt.addEventListener('keydown', (event) => {
      // While an input method composes a character, Enter belongs to it.
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      if (!this.#send.hidden) this.#form.requestSubmit();
    });
    this.#stop.addEventListener('click', stop);
    element('new-chat', HTMLButtonElement).addEventListener('click', newChat);
  }

  /** Swaps the buttons for sending and stopping. */
  set running(running: boolean) {
    this.#send.hidden = running;
    this.#stop.hidden = !running;
  }

  set text(text: string) {
    this.#prompt.value = text;
  }

  get text(): string {
    return this.#prompt.value;
  }

  focus(): void {
    this.#prompt.focus();
  }
}
