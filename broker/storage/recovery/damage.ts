/** What is wrong with a log, collected over all of it, and said once. */
import type { RecordHeader } from '../record/record.ts';
import { StoreError } from '../store-error.ts';
import { definitionText, type HolderNames, isDefinition, listed } from './holder-names.ts';
import type { Wreck } from './wreck.ts';

/** One place that cannot be read. */
export interface Damage {
  readonly path: string;
  /** Undefined: the file as a whole. */
  readonly offset: number | undefined;
  readonly text: string;
}

/** Damages that an error text lists. */
const SHOWN_MAX = 20;

/** One place that cannot be read, and what is known of it so far. */
export class DamagedPlace {
  readonly path: string;
  readonly segment: number;
  /** Octets `[offset, end)` of the file; undefined: the file as a whole. */
  readonly offset: number | undefined;
  readonly end: number;
  /** Of the record that was there, if it is intact. */
  readonly header: RecordHeader | undefined;
  /** What is wrong. */
  readonly #text: string;
  /** Slot that the first message there has had. */
  firstSlot = 0;
  /** How many messages that wait are missing; undefined: all that was there counts. */
  lostCount: number | undefined;
  /** Their slots, where something can be made out. */
  lost: ReadonlySet<number> | undefined;
  /** The file in which its definitions are intact. */
  copiedIn: string | undefined;
  /** What can still be made out. */
  wreck: Wreck | undefined;
  /** Acks that can be made out, by the holder of the message. */
  readonly #acked = new Map<number, number>();

  constructor(
    file: { readonly path: string; readonly id: number },
    region: { readonly offset: number | undefined; readonly end?: number; readonly header?: RecordHeader | undefined },
    text: string,
  ) {
    this.path = file.path;
    this.segment = file.id;
    this.offset = region.offset;
    this.end = region.end ?? region.offset ?? 0;
    this.header = region.header;
    this.#text = text;
  }

  /** Something is there, which can be looked into. */
  get isReadable(): boolean {
    return this.offset !== undefined && this.end > this.offset;
  }

  /** An ack of a message of this holder was there. */
  countAck(holder: number): void {
    this.#acked.set(holder, (this.#acked.get(holder) ?? 0) + 1);
  }

  /** The place for a person to read of. */
  damage(names: HolderNames): Damage {
    const { path, offset } = this;
    return { path, offset, text: [this.#text, ...this.#contents(names)].join('; ') };
  }

  #contents(names: HolderNames): string[] {
    const count = this.lostCount;
    if (count !== undefined) {
      const held = count === 1 ? 'one message that waits is missing' : `${count} messages that wait are missing`;
      return [`${held} (${names.tally(this.#messages(), count)})`];
    }
    if (!this.isReadable) return [];
    return this.header === undefined ? this.#guess(names) : [this.#held(this.header, names)];
  }

  /** Of a record whose header is intact. */
  #held({ slotCount, settledCount, definitionCount }: RecordHeader, names: HolderNames): string {
    const parts: string[] = [];
    if (slotCount > 0) {
      parts.push(`${counted(slotCount, 'message', 'messages')} (${names.tally(this.#messages(), slotCount)})`);
    }
    if (settledCount > 0) {
      parts.push(`${counted(settledCount, 'ack', 'acks')} (${names.tally(this.#acked, settledCount)})`);
    }
    if (definitionCount > 0) {
      parts.push(`${counted(definitionCount, 'definition', 'definitions')} (${this.#definitions(definitionCount)})`);
    }
    return `it held ${parts.length === 0 ? 'no messages, acks or definitions' : parts.join(', ')}`;
  }

  /** Of a record whose header is damaged too: what seems to have been there. */
  #guess(names: HolderNames): string[] {
    const messages = this.#messages();
    const parts: string[] = [];
    if (messages.size > 0) parts.push(`messages (${names.tally(messages, total(messages))})`);
    if (this.#acked.size > 0) parts.push(`acks (${names.tally(this.#acked, total(this.#acked))})`);
    if (this.copiedIn !== undefined || this.wreck?.definitions.some(isDefinition) === true) {
      parts.push(`definitions (${this.#definitions(0)})`);
    }
    if (parts.length === 0) return ['what was here is not known'];
    return [`what was here is not known for certain; there seem to have been ${parts.join(', ')}`];
  }

  #definitions(count: number): string {
    if (this.copiedIn !== undefined) return `which ${this.copiedIn} has too`;
    const found = (this.wreck?.definitions ?? []).filter(isDefinition);
    if (found.length === 0) return 'of what cannot be told';
    const more = count > found.length ? `; of what the other ${count - found.length} were cannot be told` : '';
    return `${listed(found.map(definitionText))}${more}`;
  }

  /** Messages that can be made out, as many as count, by holder. */
  #messages(): Map<number, number> {
    const counts = new Map<number, number>();
    const { slots = [], holders = [] } = this.wreck ?? {};
    for (let index = 0; index < slots.length; index++) {
      const holder = holders[index] as number;
      if (this.lost?.has(slots[index] as number) !== false) counts.set(holder, (counts.get(holder) ?? 0) + 1);
    }
    return counts;
  }
}

function total(counts: ReadonlyMap<number, number>): number {
  return [...counts.values()].reduce((sum, count) => sum + count, 0);
}

function counted(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
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
