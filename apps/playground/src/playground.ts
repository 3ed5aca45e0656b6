import { removeOpfsCached } from '@filigree/checkpoint';
import { AbortError, DeviceLostError } from '@filigree/core-tensor';
import { loadModel, type FinishReason, type GenerateOptions, type Model } from '@filigree/transformer';
import { element } from './elements.js';
import { Conversation } from './state/conversation.js';
import { openDevice, type Device } from './state/device.js';
import { explain, type Remedy } from './state/explain.js';
import { nameOf, openChoice, type ModelChoice } from './state/model-choice.js';
import { Work } from './state/work.js';
import { AttentionForm } from './views/attention-form.js';
import { Composer } from './views/composer.js';
import { ConversationView } from './views/conversation.js';
import { ModelFacts } from './views/model-facts.js';
import { Picker } from './views/picker.js';
import { ProblemView } from './views/problem.js';
import { ProgressView } from './views/progress.js';
import { SamplingForm } from './views/sampling-form.js';
import { StatisticsView } from './views/statistics.js';

/** How an answer ended, where the user would wonder. */
const notes: Readonly<Partial<Record<FinishReason, string>>> = {
  length: 'ended at the limit of tokens',
  aborted: 'stopped',
};

/** The page: one device, at most one model on it, one conversation, and one thing under way at a time. */
export class Playground {
  readonly #work = new Work();
  readonly #conversation = new Conversation();
  readonly #deviceLine = element('device', HTMLParagraphElement);
  readonly #chat = element('chat', HTMLElement);
  readonly #messages = new ConversationView();
  readonly #statistics = new StatisticsView();
  readonly #sampling = new SamplingForm();
  readonly #attention = new AttentionForm();
  readonly #problem = new ProblemView((remedy) => void this.#remedy(remedy));
  readonly #progress = new ProgressView(() => {
    this.#work.abort();
  });
  readonly #picker = new Picker((choice) => void this.#load(choice));
  readonly #facts = new ModelFacts({ change: () => void this.#changeModel(), forget: () => void this.#forget() });
  readonly #composer = new Composer({
    send: (text) => void this.#answer(text),
    stop: () => {
      this.#work.abort();
    },
    newChat: () => void this.#newChat(),
  });
  #device: Device | undefined;
  #model: Model | undefined;
  /** What was loaded last, or was to be. */
  #choice: ModelChoice | undefined;

  async start(): Promise<void> {
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.#work.abort();
    });
    await this.#work.begin(() => this.#guarded(async () => void (await this.#openDevice())));
  }

  async #load(choice: ModelChoice, { keepChat = false } = {}): Promise<void> {
    await this.#work.begin((signal) =>
      this.#guarded(async () => {
        this.#problem.hide();
        this.#unload();
        this.#choice = choice;
        if (!keepChat) this.#clearChat();
        this.#picker.hidden = true;
        try {
          this.#model = await this.#loadOnDevice(choice, signal);
          this.#facts.show(this.#model, nameOf(choice), { kept: choice.kind === 'address' && choice.keep });
          this.#chat.hidden = false;
          this.#composer.focus();
        } catch (error) {
          this.#picker.hidden = false;
          throw error;
        } finally {
          this.#progress.hide();
        }
      }),
    );
  }

  async #loadOnDevice(choice: ModelChoice, signal: AbortSignal): Promise<Model> {
    const name = nameOf(choice);
    this.#progress.show(`Opening ${name}`);
    const { backend } = this.#device ?? (await this.#openDevice());
    const source = await openChoice(choice, {
      signal,
      onProgress: (done, total) => {
        this.#progress.show(`Fetching ${name}`, done, total);
      },
    });
    return loadModel(source, {
      backend,
      signal,
      // Both backends of the page compute with f32 activations anyway: rounding them first would cost accuracy and gain nothing.
      activations: 'none',
      onProgress: ({ doneBytes, totalBytes }) => {
        this.#progress.show(`Moving ${name} to the device`, doneBytes, totalBytes);
      },
    });
  }

  async #answer(question: string): Promise<void> {
    const settings = this.#sampling.read();
    const { valid, prefill } = this.#attention.read();
    const model = this.#model;
    if (!settings || !valid || !model || this.#work.running) return;
    await this.#work.begin((signal) =>
      this.#guarded(() => this.#stream(model, question, { ...settings, signal, attention: { prefill } })),
    );
  }

  /** Streams an answer onto the page. What fails before its first token is as if it had not been asked. */
  async #stream(model: Model, question: string, options: GenerateOptions): Promise<void> {
    this.#problem.hide();
    const generation = this.#conversation.ask(model, question, options);
    this.#attention.promptTokens = generation.stats.promptTokens;
    const removeQuestion = this.#messages.addQuestion(question);
    const answer = this.#messages.addAnswer();
    this.#composer.text = '';
    this.#composer.running = true;
    try {
      for await (const { text, token } of generation) {
        answer.append(text, token);
        this.#statistics.show(generation.stats);
      }
      answer.finish(notes[generation.reason ?? 'eos']);
    } catch (error) {
      if (answer.text === '') {
        answer.remove();
        removeQuestion();
        if (this.#composer.text === '') this.#composer.text = question;
      } else answer.finish(error instanceof AbortError ? notes.aborted : 'broke off');
      throw error;
    } finally {
      if (answer.text !== '') this.#conversation.keep(question, answer.text);
      this.#composer.running = false;
      this.#composer.focus();
    }
  }

  async #openDevice(): Promise<Device> {
    this.#deviceLine.textContent = 'Looking for a GPU …';
    const device = await openDevice((message) => {
      this.#deviceLine.textContent = 'The GPU went away';
      this.#fail(new DeviceLostError(message || 'The browser or the system took the GPU away from this page.'));
    });
    this.#device = device;
    this.#deviceLine.textContent = device.words;
    if (device.warning !== undefined) this.#deviceLine.append(` · ${device.warning}`);
    return device;
  }

  async #remedy(remedy: Remedy): Promise<void> {
    switch (remedy) {
      case 'reload-device':
        return this.#reloadDevice();
      case 'retry':
        return this.#choice && this.#load(this.#choice);
      case 'load-unkept':
        return this.#choice?.kind === 'address' ? this.#load({ ...this.#choice, keep: false }) : undefined;
      case 'new-chat':
        return this.#newChat();
      case 'change-model':
        return this.#changeModel();
    }
  }

  /** A new device, and the model on it again if there was one; the conversation stays. */
  async #reloadDevice(): Promise<void> {
    const reload = this.#model ? this.#choice : undefined;
    await this.#work.stop();
    this.#unload();
    this.#device?.close();
    this.#device = undefined;
    if (reload) await this.#load(reload, { keepChat: true });
    else await this.#work.begin(() => this.#guarded(async () => void (await this.#openDevice())));
  }

  async #changeModel(): Promise<void> {
    await this.#work.stop();
    this.#unload();
    this.#clearChat();
    this.#picker.hidden = false;
    this.#picker.focus();
  }

  async #forget(): Promise<void> {
    const choice = this.#choice;
    if (choice?.kind !== 'address') return;
    await this.#guarded(async () => {
      await removeOpfsCached(choice.url);
      this.#facts.forgotten();
    });
  }

  async #newChat(): Promise<void> {
    await this.#work.stop();
    this.#clearChat();
    this.#problem.hide();
    this.#composer.focus();
  }

  #clearChat(): void {
    this.#conversation.clear();
    this.#messages.clear();
    this.#statistics.show(undefined);
  }

  #unload(): void {
    this.#model?.dispose();
    this.#model = undefined;
    this.#facts.hide();
    this.#chat.hidden = true;
  }

  /** Shows what fails, unless the user asked for it. */
  async #guarded(action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      if (!(error instanceof AbortError)) this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#problem.show(explain(error));
    // What is not typed is a fault: whoever looks for it needs the stack.
    if (explain(error).code === 'UNKNOWN' || error instanceof TypeError) console.error(error);
  }
}
