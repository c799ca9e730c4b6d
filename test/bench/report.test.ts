/** The table of the bench says what the runs said. */
import { expect, test } from 'vitest';
import { markdownTable, median, summarise } from '../../bench/report.ts';
import type { Run } from '../../bench/run.ts';

function run(peer: string, round: number, rate: number, cpu: number): Run {
  const figures = [
    { name: 'rate', unit: 'msg/s', better: 'higher', value: rate },
    { name: 'broker CPU', unit: 'µs/msg', better: 'lower', value: cpu },
    { name: 'generator CPU', unit: 'µs/msg', better: 'none', value: 0.1 },
  ] as const;
  return { scenario: 'a-16', peer, round, figures };
}

test('the middle of an even and of an odd number of values', () => {
  expect([median([3, 1, 2]), median([4, 1, 2, 3]), median([])]).toEqual([2, 2.5, Number.NaN]);
});

test('medians, spread, and how many times better the first broker is, whichever way is better', () => {
  const runs = [
    ...[run('warren', 1, 1_000_000, 0.5), run('rabbitmq', 1, 100_000, 10)],
    ...[run('warren', 2, 3_000_000, 0.4), run('rabbitmq', 2, 100_000, 12)],
    ...[run('warren', 3, 1_200_000, 0.6), run('rabbitmq', 3, 90_000, 11)],
  ];
  const summaries = summarise(runs);
  expect(summaries.map(({ peers }) => peers[1]?.advantage)).toEqual([12, 22, undefined]);
  expect(markdownTable(summaries, []).split('\n')).toEqual([
    '| scenario | figure | warren | rabbitmq | warren : rabbitmq |',
    '| --- | --- | ---: | ---: | ---: |',
    '| a-16 | rate, msg/s | 1,200,000 (1,000,000–3,000,000) | 100,000 (90,000–100,000) | 12x |',
    '|  | broker CPU, µs/msg | 0.5 (0.4–0.6) | 11 (10–12) | 22x |',
    '|  | generator CPU, µs/msg | 0.1 | 0.1 |  |',
  ]);
});
