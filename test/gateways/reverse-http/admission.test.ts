/** Who may publish now. */
import { expect, it } from 'vitest';
import { Admission } from '../../../gateways/reverse-http/admission.ts';

it('refuses under an alarm, and waits while the broker catches up with its disk', async () => {
  const admission = new Admission();
  await admission.pass(0);
  admission.events.onAlarms(['disk']);
  await expect(admission.pass(0)).rejects.toMatchObject({ status: 503, headers: { 'Retry-After': '5' } });
  admission.events.onAlarms([]);
  admission.events.onFlow(true);
  await expect(admission.pass(1)).rejects.toMatchObject({ status: 503 });
  const passed: number[] = [];
  const passing = [1, 2].map((number) => admission.pass(60_000).then(() => passed.push(number)));
  await new Promise(setImmediate);
  expect(passed).toEqual([]);
  admission.events.onFlow(false);
  await Promise.all(passing);
  expect(passed).toEqual([1, 2]);
});
