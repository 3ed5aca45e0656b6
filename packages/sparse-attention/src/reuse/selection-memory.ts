import { unscoped, type Tensor } from '@filigree/core-tensor';
import type { SelectionPart } from '../selector.js';

/** A part of a selection that lists keys: it means the same in another layer and in a later step, as positions do. */
export type ListPart = Extract<SelectionPart, { readonly indices: Tensor }>;

/** A selection that was kept, and how many keys every element had when it was made. */
export interface KeptSelection {
  readonly parts: readonly ListPart[];
  /** Undefined in a step that is recorded. */
  readonly lenK: readonly number[] | undefined;
  /** What the selector that kept it wants to know again. */
  readonly note?: unknown;
  /** What it wants to have on the device again. */
  readonly tensors?: readonly Tensor[];
}

/** Selections by name, for layers and steps to come. Whoever makes one disposes it. */
export class SelectionMemory {
  readonly #kept = new Map<string, KeptSelection>();

  /** Keeps a selection in place of the one of that name; its tensors stay the caller's. */
  keep(name: string, selection: KeptSelection): void {
    release(this.#kept.get(name));
    this.#kept.set(
      name,
      unscoped(() => viewed(selection)),
    );
  }

  /** The selection of that name. Its tensors are the caller's. */
  get(name: string): KeptSelection | undefined {
    const found = this.#kept.get(name);
    return found && viewed(found);
  }

  /** Forgets everything: keys at these positions may be others now. */
  clear(): void {
    for (const selection of this.#kept.values()) release(selection);
    this.#kept.clear();
  }

  dispose(): void {
    this.clear();
  }
}

/** What a sequence may use again: within one step, and until its entries are taken back. */
export interface SelectionMemories {
  readonly step: SelectionMemory;
  readonly sequence: SelectionMemory;
}

function viewed({ parts, tensors, ...rest }: KeptSelection): KeptSelection {
  const view = (tensor: Tensor): Tensor => tensor.view(tensor.shape);
  return {
    ...rest,
    parts: parts.map(({ indices, cells }) => ({ indices: view(indices), cells: cells && view(cells) })),
    ...(tensors && { tensors: tensors.map(view) }),
  };
}

function release(selection: KeptSelection | undefined): void {
  for (const { indices, cells } of selection?.parts ?? []) {
    indices.dispose();
    cells?.dispose();
  }
  for (const tensor of selection?.tensors ?? []) tensor.dispose();
}
