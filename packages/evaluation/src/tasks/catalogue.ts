import { OptionError } from '@filigree/core-tensor';
import type { Task } from '../task.js';
import { copy } from './copy.js';
import { needle } from './needle.js';
import { passkey } from './passkey.js';
import { perplexityTasks } from './perplexity.js';
import { rulerTasks } from './ruler.js';
import { wordsTasks } from './words.js';

/** Names that stand for several tasks; `planted` is no task of a model and not among them. */
export const taskGroups = ['passkey', 'needle', 'copy', 'ruler', 'words', 'perplexity'] as const;

/** Every task of a model. @param text for perplexity; without one those tasks are left out. */
export function allTasks(text?: string): readonly Task[] {
  return [passkey, needle, copy, ...rulerTasks, ...wordsTasks, ...(text === undefined ? [] : perplexityTasks(text))];
}

/**
 * Tasks by name: one task, or a group as `ruler`. @throws OptionError naming an unknown one.
 */
export function tasksNamed(names: readonly string[], text?: string): readonly Task[] {
  const all = allTasks(text);
  const found = names.flatMap((name) => {
    const own = all.filter(({ id }) => id === name || id.startsWith(`${name}-`));
    if (own.length === 0) throw new OptionError(`there is no task "${name}"; there are ${all.map(({ id }) => id).join(', ')}`);
    return own;
  });
  return [...new Set(found)];
}
