/** The limits that docs/protocols/amqp.md shows are those of the code, and those that stand twice are equal. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { BODY_BYTES_MAX } from '../../../broker/broker.ts';
import { TABLE_DEPTH_MAX } from '../../../broker/encoding/field-tables.ts';
import { resolveOptions } from '../../../gateways/amqp/options.ts';
import { OPTION_NAMES, OPTIONS, spelled } from '../../../gateways/options.ts';
import { HIGH_WATER_BYTES, STUCK_FACTOR } from '../../../gateways/outbox.ts';

const UNITS: Readonly<Record<string, number>> = { KiB: 1024, MiB: 1024 ** 2, s: 1 };

/** Rows of the table: what, its default as a number, the cell with the option. */
function rows() {
  const document = readFileSync(new URL('../../../docs/protocols/amqp.md', import.meta.url), 'utf8');
  const section = /^## Limits\n([\s\S]*?)^## /m.exec(document)?.[1] ?? '';
  return [...section.matchAll(/^\| (.+?) \| (\d+)(?: (\w+))?.*? \| (.*?) ?\|$/gm)].map(
    ([, what = '', digits, unit = '', option = '']) => ({ what, value: Number(digits) * (UNITS[unit] ?? 1), option }),
  );
}

describe('the limits in docs/protocols/amqp.md', () => {
  it('are those of the options beside them', () => {
    const shown = rows().filter(({ option }) => option.startsWith('`--'));
    expect(shown).toHaveLength(6);
    for (const { what, value, option } of shown) {
      const name = OPTION_NAMES.find((candidate) => `\`--${spelled(candidate)}\`` === option);
      expect([what, name && OPTIONS[name].default]).toEqual([what, value]);
    }
  });

  it('are those of the code where there is no option', () => {
    const value = (words: string): number | undefined => rows().find(({ what }) => what.includes(words))?.value;
    expect(value('before it is not read')).toBe(STUCK_FACTOR * HIGH_WATER_BYTES);
    expect(value('in each other')).toBe(TABLE_DEPTH_MAX);
    expect(value('connection.close')).toBe(resolveOptions({}).closeTimeoutMs / 1000);
  });
});

it('door and broker take messages up to the same size, if nobody says otherwise', () => {
  expect(resolveOptions({}).bodyBytesMax).toBe(BODY_BYTES_MAX);
});
