%% Computing, in the language itself. Results are checked.
-module(twin_compute).
-export([all/0]).

-define(TURNS, 5).
-define(WORD, 16#FFFFFFFF).

all() ->
    best("fib(32)", "", fun() -> 2178309 = fib(32) end),
    %% 64-bit products are bignums in Erlang; those of 32 bits are not.
    best("LCG loop of 10,000,000", " [64 bits]", fun() -> lcg64(10000000, 42) end),
    best("LCG loop of 10,000,000", " [32 bits]", fun() -> lcg32(10000000, 42) end),
    best("mandelbrot 400 x 400 x 100", "", fun() -> 4856315 = mandelbrot(400, 100) end),
    best("n-body 500,000 steps", "", fun() ->
        Energy = n_body(500000),
        true = abs(Energy + 0.169096567) < 1.0e-9
    end),
    Text = binary:copy(<<"0123456789abcdef">>, 65536),
    best("SHA-256 of 1 MiB", "", fun() ->
        <<16#aca1cd027e979588:64, _/binary>> = sha256(Text)
    end).

%% The best of some turns, as on our side.
best(Name, Way, Work) ->
    Times = [twin:apart(fun() -> twin:timed(Work) end) || _ <- lists:seq(1, twin:of_full(?TURNS))],
    twin:sample([Name, " on a node, ms", Way], lists:min(Times) / 1.0e6).

fib(N) when N < 2 -> N;
fib(N) -> fib(N - 1) + fib(N - 2).

lcg64(0, X) -> X;
lcg64(Left, X) ->
    lcg64(Left - 1, (X * 6364136223846793005 + 1442695040888963407) band 16#FFFFFFFFFFFFFFFF).

lcg32(0, X) -> X;
lcg32(Left, X) -> lcg32(Left - 1, (X * 1664525 + 1013904223) band ?WORD).

%% ---- Mandelbrot ----------------------------------------------------------

mandelbrot(Size, Most) -> row(0, Size, Most, 0).

row(Size, Size, _, Sum) -> Sum;
row(Y, Size, Most, Sum) ->
    row(Y + 1, Size, Most, column(0, 2.0 * Y / Size - 1.0, Size, Most, Sum)).

column(Size, _, Size, _, Sum) -> Sum;
column(X, Ci, Size, Most, Sum) ->
    Steps = escape(0.0, 0.0, 3.0 * X / Size - 2.0, Ci, 0, Most),
    column(X + 1, Ci, Size, Most, Sum + Steps).

escape(_, _, _, _, Most, Most) -> Most;
escape(Zr, Zi, Cr, Ci, Step, Most) when is_float(Zr), is_float(Zi), is_float(Cr), is_float(Ci) ->
    R = Zr * Zr,
    I = Zi * Zi,
    if
        R + I > 4.0 -> Step;
        true -> escape(R - I + Cr, 2.0 * Zr * Zi + Ci, Cr, Ci, Step + 1, Most)
    end.

%% ---- n-body --------------------------------------------------------------

-define(SOLAR_MASS, (4 * 3.141592653589793 * 3.141592653589793)).

n_body(Steps) -> energy(advance(Steps, at_rest(bodies()))).

%% {Place, Speed, Mass}, the vectors flat: X, Y, Z, U, V, W, Mass.
bodies() ->
    [body(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
     body(4.841431442464721, -1.1603200440274284, -0.10362204447112311,
          0.001660076642744037, 0.007699011184197404, -6.90460016972063e-5, 9.547919384243266e-4),
     body(8.34336671824458, 4.124798564124305, -0.4035234171143214,
          -0.002767425107268624, 0.004998528012349172, 2.3041729757376393e-5, 2.858859806661308e-4),
     body(12.894369562139131, -15.111151401698631, -0.22330757889265574,
          0.002964601375647616, 0.0023784717395948095, -2.9658956854023756e-5, 4.366244043351563e-5),
     body(15.379697114850917, -25.919314609987964, 0.17925877295037118,
          0.0026806777249038932, 0.001628241700382423, -9.515922545197159e-5, 5.1513890204661145e-5)].

body(X, Y, Z, U, V, W, Mass) ->
    Days = 365.24,
    {X, Y, Z, U * Days, V * Days, W * Days, Mass * ?SOLAR_MASS}.

%% The Sun moves so that all together stand still.
at_rest([{X, Y, Z, _, _, _, Mass} | Planets]) ->
    Momentum = fun(Axis) -> lists:sum([element(Axis, P) * element(7, P) || P <- Planets]) end,
    [{X, Y, Z, -Momentum(4) / Mass, -Momentum(5) / Mass, -Momentum(6) / Mass, Mass} | Planets].

advance(0, Bodies) -> Bodies;
advance(Left, Bodies) -> advance(Left - 1, move(attract(Bodies))).

attract([]) -> [];
attract([Body | Rest]) ->
    {Pulled, Others} = attract(Body, Rest, []),
    [Pulled | attract(Others)].

attract(Body, [], Done) -> {Body, lists:reverse(Done)};
attract({X1, Y1, Z1, U1, V1, W1, M1}, [{X2, Y2, Z2, U2, V2, W2, M2} | Rest], Done)
  when is_float(X1), is_float(Y1), is_float(Z1), is_float(U1), is_float(V1), is_float(W1),
       is_float(X2), is_float(Y2), is_float(Z2), is_float(U2), is_float(V2), is_float(W2),
       is_float(M1), is_float(M2) ->
    X = X1 - X2,
    Y = Y1 - Y2,
    Z = Z1 - Z2,
    Square = X * X + Y * Y + Z * Z,
    Pull = 0.01 / (Square * math:sqrt(Square)),
    P1 = M2 * Pull,
    P2 = M1 * Pull,
    attract({X1, Y1, Z1, U1 - X * P1, V1 - Y * P1, W1 - Z * P1, M1}, Rest,
            [{X2, Y2, Z2, U2 + X * P2, V2 + Y * P2, W2 + Z * P2, M2} | Done]).

move(Bodies) ->
    [{X + 0.01 * U, Y + 0.01 * V, Z + 0.01 * W, U, V, W, M} || {X, Y, Z, U, V, W, M} <- Bodies].

energy([]) -> 0.0;
energy([{X1, Y1, Z1, U, V, W, M1} | Rest]) ->
    Between = [begin
                   {X, Y, Z} = {X1 - X2, Y1 - Y2, Z1 - Z2},
                   M1 * M2 / math:sqrt(X * X + Y * Y + Z * Z)
               end || {X2, Y2, Z2, _, _, _, M2} <- Rest],
    0.5 * M1 * (U * U + V * V + W * W) - lists:sum(Between) + energy(Rest).

%% ---- SHA-256 -------------------------------------------------------------

-define(TURN(X, N), (((X) bsr N) bor (((X) bsl (32 - N)) band ?WORD))).

sha256(Text) ->
    Size = byte_size(Text),
    Fill = (119 - Size rem 64) rem 64,
    Padded = <<Text/binary, 16#80, 0:Fill/unit:8, (Size * 8):64>>,
    State = blocks(Padded, {16#6a09e667, 16#bb67ae85, 16#3c6ef372, 16#a54ff53a,
                            16#510e527f, 16#9b05688c, 16#1f83d9ab, 16#5be0cd19}),
    << <<Word:32>> || Word <- tuple_to_list(State) >>.

blocks(<<>>, State) -> State;
blocks(<<W1:32, W2:32, W3:32, W4:32, W5:32, W6:32, W7:32, W8:32, W9:32, W10:32, W11:32, W12:32,
         W13:32, W14:32, W15:32, W16:32, Rest/binary>>, {A, B, C, D, E, F, G, H}) ->
    {A1, B1, C1, D1, E1, F1, G1, H1} =
        rounds(constants(), A, B, C, D, E, F, G, H,
               W1, W2, W3, W4, W5, W6, W7, W8, W9, W10, W11, W12, W13, W14, W15, W16),
    blocks(Rest, {(A + A1) band ?WORD, (B + B1) band ?WORD, (C + C1) band ?WORD,
                  (D + D1) band ?WORD, (E + E1) band ?WORD, (F + F1) band ?WORD,
                  (G + G1) band ?WORD, (H + H1) band ?WORD}).

%% The next sixteen words are arguments: the first is used, one more is made.
rounds([], A, B, C, D, E, F, G, H, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _) ->
    {A, B, C, D, E, F, G, H};
rounds([K | Ks], A, B, C, D, E, F, G, H,
       W1, W2, W3, W4, W5, W6, W7, W8, W9, W10, W11, W12, W13, W14, W15, W16) ->
    Choice = (E band F) bxor ((?WORD - E) band G),
    Majority = (A band B) bxor (A band C) bxor (B band C),
    One = H + (?TURN(E, 6) bxor ?TURN(E, 11) bxor ?TURN(E, 25)) + Choice + K + W1,
    Two = (?TURN(A, 2) bxor ?TURN(A, 13) bxor ?TURN(A, 22)) + Majority,
    Small = ?TURN(W2, 7) bxor ?TURN(W2, 18) bxor (W2 bsr 3),
    Great = ?TURN(W15, 17) bxor ?TURN(W15, 19) bxor (W15 bsr 10),
    Next = (W1 + Small + W10 + Great) band ?WORD,
    rounds(Ks, (One + Two) band ?WORD, A, B, C, (D + One) band ?WORD, E, F, G,
           W2, W3, W4, W5, W6, W7, W8, W9, W10, W11, W12, W13, W14, W15, W16, Next).

constants() ->
    [16#428a2f98, 16#71374491, 16#b5c0fbcf, 16#e9b5dba5, 16#3956c25b, 16#59f111f1, 16#923f82a4, 16#ab1c5ed5,
     16#d807aa98, 16#12835b01, 16#243185be, 16#550c7dc3, 16#72be5d74, 16#80deb1fe, 16#9bdc06a7, 16#c19bf174,
     16#e49b69c1, 16#efbe4786, 16#0fc19dc6, 16#240ca1cc, 16#2de92c6f, 16#4a7484aa, 16#5cb0a9dc, 16#76f988da,
     16#983e5152, 16#a831c66d, 16#b00327c8, 16#bf597fc7, 16#c6e00bf3, 16#d5a79147, 16#06ca6351, 16#14292967,
     16#27b70a85, 16#2e1b2138, 16#4d2c6dfc, 16#53380d13, 16#650a7354, 16#766a0abb, 16#81c2c92e, 16#92722c85,
     16#a2bfe8a1, 16#a81a664b, 16#c24b8b70, 16#c76c51a3, 16#d192e819, 16#d6990624, 16#f40e3585, 16#106aa070,
     16#19a4c116, 16#1e376c08, 16#2748774c, 16#34b0bcb5, 16#391c0cb3, 16#4ed8aa4a, 16#5b9cca4f, 16#682e6ff3,
     16#748f82ee, 16#78a5636f, 16#84c87814, 16#8cc70208, 16#90befffa, 16#a4506ceb, 16#bef9a3f7, 16#c67178f2].
