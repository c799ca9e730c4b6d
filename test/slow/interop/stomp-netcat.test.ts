/** The conversation that README.md has with nc. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { useStompDoor } from '../../interop/stomp-door.ts';
import { describeWith, ForeignProgram } from './foreign-program.ts';

const README = readFileSync(join(import.meta.dirname, '../../../README.md'), 'utf8');

const door = useStompDoor();

describeWith('netcat-openbsd', ['nc', '-h'])('README.md with nc', () => {
  it('says hello', async () => {
    const command = /^printf .*\| nc .*$/m.exec(README)?.[0] ?? '';
    expect(command).toContain('61613');
    const program = new ForeignProgram('sh', ['-c', command.replace('61613', String(door.port))]);
    await program.waitFor('hello\0');
    expect(program.printed).toMatch(/^CONNECTED\n/);
    expect(program.printed).toContain('MESSAGE\n');
    await program.succeeds();
  });
});
