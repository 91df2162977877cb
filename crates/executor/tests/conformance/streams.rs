//! What commands print and read.

use agent::journal::Outcome;

use crate::world::World;

crate::cases!(Environment:
    both_streams_arrive_in_the_order_they_were_written,
    bytes_arrive_as_they_were_written,
    a_line_without_an_end_arrives,
    a_long_line_arrives_whole,
    a_flood_of_lines_arrives_whole_and_in_order,
    output_is_there_while_the_build_runs,
    a_command_that_closes_its_output_closes_no_other_ones,
    commands_read_nothing,
    commands_have_no_descriptors_but_their_own,
    output_of_what_runs_on_in_the_background_is_kept;
);

fn both_streams_arrive_in_the_order_they_were_written(world: &World) {
    let output = world.output(&["echo 1; echo 2 >&2; echo 3; sh -c 'echo 4 >&2'; echo 5"]);
    assert_eq!(output, ["1", "2", "3", "4", "5"]);
}

fn bytes_arrive_as_they_were_written(world: &World) {
    let ended =
        world.run(&world.commands(&["printf 'A\\000\\377\\033[1mB\\r\\nZ\\n'"])).with(Outcome::Succeeded);
    let expected = b"A\0\xff\x1b[1mB\r\nZ\n";
    assert!(ended.log.windows(expected.len()).any(|window| window == expected), "{:?}", ended.output());
}

fn a_line_without_an_end_arrives(world: &World) {
    assert_eq!(world.output(&["printf endless"]), ["endless"]);
}

fn a_long_line_arrives_whole(world: &World) {
    const BYTES: usize = 1 << 20;
    let output = world.output(&[&format!("head -c {BYTES} /dev/zero | tr '\\000' x; echo")]);
    assert!(output.concat().len() == BYTES && output.concat().bytes().all(|byte| byte == b'x'));
}

fn a_flood_of_lines_arrives_whole_and_in_order(world: &World) {
    const LINES: u32 = 300_000;
    let output = world.output(&[&format!("seq 1 {LINES}")]);
    assert!(output.iter().map(String::as_str).eq((1..=LINES).map(|n| n.to_string()).collect::<Vec<_>>()));
}

fn output_is_there_while_the_build_runs(world: &World) {
    let running = world.launch(&world.commands(&["echo early; sleep 1000"])).until_it_says("early");
    running.stop().ended().with(Outcome::Stopped);
}

fn a_command_that_closes_its_output_closes_no_other_ones(world: &World) {
    assert_eq!(world.output(&["exec >&- 2>&-; true", "echo heard"]), ["heard"]);
}

fn commands_read_nothing(world: &World) {
    assert_eq!(world.output(&["cat; echo read $(wc -c)"]), ["read 0"]);
}

fn commands_have_no_descriptors_but_their_own(world: &World) {
    let output = world.output(&["sh -c 'for fd in /proc/$$/fd/*; do echo ${fd##*/}; done'"]);
    let numbers: Vec<u32> = output.iter().map(|number| number.parse().unwrap()).collect();
    // The list itself is read by one.
    assert!(numbers.iter().all(|number| *number <= 3), "{numbers:?}");
}

fn output_of_what_runs_on_in_the_background_is_kept(world: &World) {
    let output = world.output(&[
        "(sleep 0.2; echo late; touch /tmp/late) &",
        "until [ -e /tmp/late ]; do sleep 0.1; done; echo last",
    ]);
    assert_eq!(output, ["late", "last"]);
}
