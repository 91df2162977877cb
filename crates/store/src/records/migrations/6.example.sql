-- What version 6 may have left beside that: a log stream that is forwarded so far.

UPDATE log_streams SET forwarding = '4e.7' WHERE account = '123456789012' AND region = 'eu-west-1' AND name = 'three';
