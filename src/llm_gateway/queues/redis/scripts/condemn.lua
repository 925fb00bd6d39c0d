-- Ends a job that the asker cannot read. ARGV: 5 ticket
condemn(ARGV[5])
commit()
return answer(1)
