import { create, element } from '../elements.js';
import type { Explanation, Remedy } from '../state/explain.js';

const labels: Readonly<Record<Remedy, string>> = {
  retry: 'Try again',
  'reload-device': 'Reload device',
  'load-unkept': 'Load without keeping it',
  'new-chat': 'New chat',
  'change-model': 'Change model',
};

/** The last problem, in words, with what can be done about it. */
export class ProblemView {
  readonly #box = element('problem', HTMLDivElement);
  readonly #onRemedy: (remedy: Remedy) => void;

  constructor(onRemedy: (remedy: Remedy) => void) {
    this.#onRemedy = onRemedy;
  }

  show({ title, details, code, remedies }: Explanation): void {
    const buttons = create('div', { className: 'row' });
    for (const remedy of remedies) {
      const button = create('button', { text: labels[remedy] });
      button.type = 'button';
      button.addEventListener('click', () => {
        this.hide();
        this.#onRemedy(remedy);
      });
      buttons.append(button);
    }
    const dismiss = create('button', { text: 'Dismiss' });
    dismiss.type = 'button';
    dismiss.addEventListener('click', () => {
      this.hide();
    });
    buttons.append(dismiss);
    const text = create('p', { text: details });
    text.append(' ', create('code', { text: code }));
    this.#box.replaceChildren(create('strong', { text: title }), text, buttons);
    this.#box.hidden = false;
  }

  hide(): void {
    this.#box.hidden = true;
    this.#box.replaceChildren();
  }
}
