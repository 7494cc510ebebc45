%% The benchmarks' work in Erlang: the entry, and what all programs share.
%%
%% `cargo xtask bench --against beam` starts a virtual machine for each run and
%% calls run/1 with the benchmark's name, `quick` or `full`, the folder of these
%% sources, and the way to do it where there are several. A program prints
%% samples under the names of the figures that it is compared with.
-module(twin).
-export([run/1, sample/2, spread/2, of_full/1, label/1, group/1, schedulers/0, schedulers/1,
         now_ns/0, timed/1, apart/1, sources/0]).

run([Name, Mode, Sources | Way]) ->
    persistent_term:put(twin_mode, Mode),
    persistent_term:put(twin_sources, Sources),
    apart(fun() -> work(Name, Way) end),
    halt(0).

work("ping-pong-apart-2", _) -> twin_messages:ping_pong([1, 2]);
work("ping-pong-" ++ _, _) -> twin_messages:ping_pong([]);
work("ring-" ++ _, _) -> twin_messages:ring();
work("all-to-all-" ++ _, _) -> twin_messages:all_to_all();
work("fan-in-" ++ _, _) -> twin_messages:fan_in();
work("call-" ++ _, _) -> twin_messages:call();
work("spawn-" ++ _, _) -> twin_life:spawns();
work("memory-100k", [Way]) -> twin_life:idle(100000, Way);
work("memory-1m", [Way]) -> twin_life:idle(1000000, Way);
work("swap-10k-reused", _) -> twin_swap:many(twin_loop);
work("swap-10k-migrated", _) -> twin_swap:many(twin_server);
work("swap-pause-ready", _) -> twin_swap:pause();
work("timers", _) -> twin_time:timers();
work("fairness-" ++ _, _) -> twin_time:fairness();
work("compute", _) -> twin_compute:all().

%% ---- what is printed -----------------------------------------------------

sample(Name, Value) ->
    io:format("sample\t~ts\t~.3f~n", [lists:flatten(Name), float(Value)]).

%% p50, p99 and the greatest of nanoseconds, in microseconds; `{q}` in the name
%% is replaced.
spread(Name, Nanoseconds) ->
    Sorted = list_to_tuple(lists:sort(Nanoseconds)),
    Size = tuple_size(Sorted),
    [sample(string:replace(Name, "{q}", Label), element(max(1, ceil(Size * Share)), Sorted) / 1000)
     || {Label, Share} <- [{"p50", 0.5}, {"p99", 0.99}, {"max", 1.0}]],
    ok.

%% A tenth of the work when it is to be quick.
of_full(Full) ->
    case persistent_term:get(twin_mode) of
        "quick" -> max(1, Full div 10);
        "full" -> Full
    end.

%% "100,000", or what is left of it.
label(Full) -> group(of_full(Full)).

group(Number) when Number < 1000 -> integer_to_list(Number);
group(Number) -> group(Number div 1000) ++ io_lib:format(",~3..0b", [Number rem 1000]).

schedulers() -> schedulers(erlang:system_info(schedulers_online)).

schedulers(1) -> "1 scheduler";
schedulers(Number) -> integer_to_list(Number) ++ " schedulers".

%% ---- time and processes --------------------------------------------------

now_ns() -> erlang:monotonic_time(nanosecond).

timed(Work) ->
    Began = now_ns(),
    Work(),
    now_ns() - Began.

%% In a process of its own, which leaves no heap behind.
apart(Work) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({result, Work()}) end),
    receive
        {'DOWN', Monitor, process, Pid, {result, Result}} -> Result;
        {'DOWN', Monitor, process, Pid, Reason} ->
            io:format(standard_error, "~p~n", [Reason]),
            halt(1)
    end.

sources() -> persistent_term:get(twin_sources).
