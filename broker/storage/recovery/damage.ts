/** What is wrong with a log, collected over all of it, and said once. */
import type { RecordHeader } from '../record/record.ts';
import { StoreError } from '../store-error.ts';

/** One place that cannot be read. */
export interface Damage {
  readonly path: string;
  /** Undefined: the file as a whole. */
  readonly offset: number | undefined;
  readonly text: string;
}

/** Damages that an error text lists. */
const SHOWN_MAX = 20;

/** What a record held whose header is intact. */
export function contentsText({ slotCount, settledCount, definitionCount }: RecordHeader): string {
  const parts = [
    counted(slotCount, 'message', 'messages'),
    counted(settledCount, 'ack', 'acks'),
    counted(definitionCount, 'definition', 'definitions'),
  ].filter((part) => part !== '');
  return parts.length === 0 ? 'no messages, acks or definitions' : parts.join(', ');
}

function counted(count: number, one: string, many: string): string {
  return count === 0 ? '' : `${count} ${count === 1 ? one : many}`;
}

export function damageText({ path, offset, text }: Damage): string {
  return offset === undefined ? `${path}: ${text}` : `${path}, octet ${offset}: ${text}`;
}

/** The error that says all of it and what to do. */
export function damageError(path: string, damages: readonly Damage[]): StoreError {
  const shown = damages.slice(0, SHOWN_MAX).map((damage) => `\n  ${damageText(damage)}`);
  const more = damages.length > SHOWN_MAX ? `\n  and ${damages.length - SHOWN_MAX} more` : '';
  return new StoreError(
    path,
    `the data folder ${path} is damaged; nothing in it has been changed.${shown.join('')}${more}\n` +
      'Put back a backup of the folder, or start once with --recover salvage: it copies the damaged files aside and takes ' +
      'all that is intact.',
  );
}
