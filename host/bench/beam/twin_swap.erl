%% Swaps: how soon all processes are on new code, and how long one stands still.
-module(twin_swap).
-export([many/1, pause/0]).

-define(SWAPS, 100).
%% Requests under way to the busy process, and answers after which a swap is
%% taken to be over.
-define(BUSY, 4).
-define(SETTLED, 1000).

%% 10,000 processes, each asked once after the commit, until the last answer.
%% A gen_server needs more: all are suspended, changed and resumed, which is
%% part of the time.
many(Module) ->
    Count = twin:of_full(10000),
    Label = twin:label(10000),
    How = how(Module),
    [Old, New] = [binary(Module, Version) || Version <- [1, 2]],
    load(Module, Old),
    Pids = [Module:start() || _ <- lists:seq(1, Count)],
    ask(Pids, 1),
    twin:sample([Label, " asked once, no swap (", How, "), ms"],
                twin:timed(fun() -> ask(Pids, 1) end) / 1.0e6),
    {ok, Prepared} = code:prepare_loading([{Module, atom_to_list(Module), New}]),
    Took = swap(Module, Pids, Prepared),
    twin:sample([Label, " on new code, ", How, ", ms"], Took / 1.0e6).

how(twin_loop) -> "reused";
how(twin_server) -> "migrated".

swap(twin_loop, Pids, Prepared) ->
    ok = code:finish_loading(Prepared),
    twin:timed(fun() -> ask(Pids, 2) end);
swap(twin_server, Pids, Prepared) ->
    twin:timed(fun() ->
        [ok = sys:suspend(Pid, infinity) || Pid <- Pids],
        ok = code:finish_loading(Prepared),
        [ok = sys:change_code(Pid, twin_server, undefined, [], infinity) || Pid <- Pids],
        [ok = sys:resume(Pid, infinity) || Pid <- Pids],
        ask(Pids, 2)
    end).

ask(Pids, Version) ->
    Me = self(),
    [Pid ! {ask, Me} || Pid <- Pids],
    [receive {answer, Version} -> ok end || _ <- Pids].

%% One process that is asked all the time, over 100 swaps between two versions.
pause() ->
    Binaries = {binary(twin_loop, 1), binary(twin_loop, 2)},
    load(twin_loop, element(1, Binaries)),
    %% 1: the longest gap in ns, 2: answers.
    Seen = atomics:new(2, []),
    Worker = twin_loop:start(),
    spawn_link(fun() ->
        [Worker ! {ask, self()} || _ <- lists:seq(1, ?BUSY)],
        pester(Worker, Seen, twin:now_ns())
    end),
    settle(Seen),
    {Pauses, Quiet} = lists:unzip(
        [one_pause(Seen, element(Swap rem 2 + 1, Binaries)) || Swap <- lists:seq(1, twin:of_full(?SWAPS))]),
    twin:spread("pause of a busy process, ready code, {q}, us", Pauses),
    twin:spread("longest gap without a swap (ready code), {q}, us", Quiet).

one_pause(Seen, Binary) ->
    Began = twin:now_ns(),
    atomics:put(Seen, 1, 0),
    load(twin_loop, Binary),
    settle(Seen),
    Took = twin:now_ns() - Began,
    Pause = atomics:exchange(Seen, 1, 0),
    %% As long a time without a swap.
    until(fun() -> twin:now_ns() - Began > 2 * Took end),
    {Pause, atomics:exchange(Seen, 1, 0)}.

pester(Worker, Seen, Last) ->
    receive {answer, _} -> ok end,
    Now = twin:now_ns(),
    case Now - Last > atomics:get(Seen, 1) of
        true -> atomics:put(Seen, 1, Now - Last);
        false -> ok
    end,
    atomics:add(Seen, 2, 1),
    Worker ! {ask, self()},
    pester(Worker, Seen, Now).

settle(Seen) ->
    From = atomics:get(Seen, 2),
    until(fun() -> atomics:get(Seen, 2) > From + ?SETTLED end).

until(Holds) ->
    case Holds() of
        true -> ok;
        false -> receive after 1 -> until(Holds) end
    end.

binary(Module, Version) ->
    File = filename:join(twin:sources(), atom_to_list(Module)),
    {ok, Module, Binary} = compile:file(File, [binary, {d, 'VERSION', Version}]),
    Binary.

load(Module, Binary) ->
    %% Nobody is in the version before the current one any more.
    true = code:soft_purge(Module),
    {module, Module} = code:load_binary(Module, atom_to_list(Module), Binary).
