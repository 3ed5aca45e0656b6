import { create } from '../elements.js';

export interface NumberFieldOptions {
  readonly name: string;
  readonly label: string;
  readonly value: number;
  readonly min: number;
  readonly max?: number | undefined;
  /** Left out: any number. */
  readonly step?: number | undefined;
  readonly hint?: string | undefined;
}

/** A labelled number; the browser checks its range. */
export interface NumberField {
  readonly name: string;
  readonly element: HTMLElement;
  value(): number;
}

export function numberField({ name, label, value, min, max, step, hint }: NumberFieldOptions): NumberField {
  const input = create('input');
  Object.assign(input, { type: 'number', id: `field-${name}`, name, required: true, min: String(min) });
  if (max !== undefined) input.max = String(max);
  input.step = step === undefined ? 'any' : String(step);
  input.value = String(value);
  const field = create('label', { className: 'field' });
  field.append(create('span', { text: label }), input);
  if (hint !== undefined) {
    const note = create('small', { text: hint, className: 'hint' });
    note.id = `${input.id}-hint`;
    input.setAttribute('aria-describedby', note.id);
    // The hint describes the field and is no part of its name.
    input.setAttribute('aria-label', label);
    field.append(note);
  }
  return { name, element: field, value: () => input.valueAsNumber };
}
