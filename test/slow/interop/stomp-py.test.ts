/** stomp.py, the usual STOMP client of Python. */
import { expect, it } from 'vitest';
import { useStompDoor } from '../../interop/stomp-door.ts';
import { describeWith, ForeignProgram, PYTHON } from './foreign-program.ts';

const door = useStompDoor();

describeWith('python3-stomp', [PYTHON, '-c', 'import stomp'])('stomp.py', () => {
  it.each(['every_version', 'exchange_without_a_key', 'pythons_booleans', 'transactions', 'heart_beats', 'errors'])(
    '%s',
    async (scenario) => {
      const program = new ForeignProgram(PYTHON, ['stomp-client.py', String(door.port), scenario]);
      await program.succeeds();
      expect(program.printed).toBe('done\n');
    },
  );
});
