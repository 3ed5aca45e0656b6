import { OptionError } from '@filigree/core-tensor';
import { readPlanFile, type MethodOptions, type PlannedModel } from '@filigree/sparse-attention';

/** Version of the JSON of a {@link KvPlan}. */
export const kvPlanVersion = 1;

/** What calibration found out about the heads of a model. Plain JSON; how many heads are made what of it is up to the options of the method that takes it. */
export interface KvPlan {
  readonly version: typeof kvPlanVersion;
  readonly model: PlannedModel;
  /** How the figures were found: the method that they are for, and its settings. */
  readonly calibration: MethodOptions;
  /** Figures of every layer by their name: of its query heads, of its key-value heads or of itself. A layer with a window of its own has none. */
  readonly figures: Readonly<Record<string, readonly (readonly number[])[]>>;
}

/** JSON of a plan, one line a figure. */
export function formatKvPlan(plan: KvPlan): string {
  const { figures, ...head } = plan;
  const start = JSON.stringify(head).slice(0, -1);
  const lines = Object.entries(figures).map(([name, rows]) => `${JSON.stringify(name)}:${JSON.stringify(rows)}`);
  return `${start},"figures":{\n${lines.join(',\n')}\n}}\n`;
}

/**
 * Reads a plan and checks all of it that does not depend on a method; with `model`, also that it was made for that shape, whatever its name.
 * @throws OptionError naming what is wrong and where.
 */
export function parseKvPlan(json: string, model?: Omit<PlannedModel, 'name'>): KvPlan {
  const file = readPlanFile('plan of the cache', json, { version: kvPlanVersion, model });
  const { figures } = file.fields;
  if (typeof figures !== 'object' || figures === null || Array.isArray(figures))
    throw new OptionError('plan of the cache: figures is missing; `filigree calibrate` makes such a file');
  const read = Object.entries(figures).map(([name, rows]: [string, unknown]) => {
    if (!isFigure(rows, file.model.layers))
      throw new OptionError(
        `plan of the cache: figures.${name} must be lists of numbers for each of the ${file.model.layers} layers`,
      );
    return [name, rows] as const;
  });
  return { version: kvPlanVersion, model: file.model, calibration: file.calibration, figures: Object.fromEntries(read) };
}

function isFigure(rows: unknown, layers: number): rows is number[][] {
  const isRow = (row: unknown): boolean => Array.isArray(row) && row.every((value) => Number.isFinite(value));
  return Array.isArray(rows) && rows.length === layers && rows.every(isRow);
}

/**
 * A figure of a plan, for every layer `count` numbers, or none where the layer has a window of its own.
 * @throws OptionError when the plan does not have it, which is then another method's.
 */
export function figuresOf(method: string, plan: KvPlan, name: string, count: number): readonly (readonly number[])[] {
  const rows = plan.figures[name] as KvPlan['figures'][string] | undefined;
  if (rows?.length !== plan.model.layers)
    throw new OptionError(
      `${method}: the plan has no figures "${name}"; \`filigree calibrate --method ${method}\` makes a plan that has`,
    );
  const bad = rows.findIndex((row) => (row.length !== count && row.length > 0) || !row.every(Number.isFinite));
  if (bad >= 0)
    throw new OptionError(
      `${method}: the plan has ${rows[bad].length} figures "${name}" of layer ${bad}, it takes ${count} numbers, or none`,
    );
  return rows;
}
